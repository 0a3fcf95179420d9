"""Arrays in files of numpy (.npy, .npz) and safetensors, memory-mapped where they lie there as they are.

A name is a file, ``x.npy``, or a file and a key in it, ``all.npz:x``. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError, alternatives

SUFFIXES = (".npy", ".npz", ".safetensors")

SAFETENSORS = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2",
}  # fmt: skip


class ArrayFile:
    """The arrays of one file, opened when asked for.

    Args:
        path: the file.
        option: the field that names it, for messages: ``data.train``.

    Raises:
        PipelineError: no such file, or one of another format or damaged.
    """

    def __init__(self, path: Path, option: str) -> None:
        self.path, self.option = path, option
        if path.suffix.lower() not in SUFFIXES:
            raise self.refusal(f"must be a file of {', '.join(SUFFIXES)}", "save the array with numpy.save")
        if not path.is_file():
            raise self.refusal(f"no such file (looked in {Path.cwd()})", f"correct {option}")
        self._open = _OPENERS[path.suffix.lower()]
        self._readers = self._guarded(lambda: self._open(path))

    def keys(self) -> list[str]:
        """The arrays' names; an ``.npy`` has one, which is empty."""
        return list(self._readers)

    def read(self, key: str) -> NDArray[Any]:
        """One array, read-only where it is memory-mapped."""
        if key not in self._readers:
            raise self.refusal(f"has no '{key}'; {alternatives(key, self.keys())}", f"{self.option}=FILE:KEY")
        array: NDArray[Any] = self._guarded(self._readers[key])
        return array

    def fingerprint(self) -> str:
        """The sha256 of the file; it is read again where it has changed."""
        status = self.path.stat()
        return _sha256(self.path, (status.st_ino, status.st_size, status.st_mtime_ns))

    def refusal(self, problem: str, remedy: str) -> PipelineError:
        """An error that names the option."""
        return PipelineError(f"{self.option}={self.path}: {problem}.\nRemedy: {remedy}.")

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except _UNREADABLE as error:
            if re.search("allow_pickle|Object arrays|Python objects", str(error)):
                raise self.refusal(
                    "holds Python objects, which are never loaded: that would run what the file says",
                    "save arrays of numbers; rows of unlike lengths need padding to one",
                ) from error
            raise self.refusal(f"cannot be read ({error})", "write the file anew") from error


def split_name(name: str) -> tuple[Path, str]:
    """``all.npz:x`` as file and key; the key is empty where there is none."""
    file, colon, key = name.rpartition(":")
    if colon and file.lower().endswith(SUFFIXES):
        return Path(file), key
    return Path(name), ""


@lru_cache(maxsize=32)
def _sha256(path: Path, state: tuple[int, ...]) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError, RuntimeError,
    SyntaxError, MemoryError, tokenize.TokenError,
    zlib.error, struct.error, zipfile.BadZipFile,
)  # fmt: skip

MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format's own reader has it."""

Readers = dict[str, Callable[[], NDArray[Any]]]


def _npy(path: Path) -> Readers:
    return {"": lambda: np.load(path, mmap_mode="r", allow_pickle=False)}


def _npz(path: Path) -> Readers:
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    return {info.filename.removesuffix(".npy"): partial(_member, path, info) for info in infos}


def _member(path: Path, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array of an .npz: a memory map where it is not compressed."""
    if info.compress_type == zipfile.ZIP_STORED:
        with path.open("rb") as stream:
            stream.seek(info.header_offset)
            header = stream.read(30)  # of the member itself; its extra field differs from the directory's
            name, extra = struct.unpack("<26xHH", header)
            stream.seek(info.header_offset + len(header) + name + extra)
            shape, order, dtype = _npy_header(stream)
            _check_member(info, shape, dtype)
            if not dtype.hasobject and 0 not in shape:
                return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if order else "C")
    with zipfile.ZipFile(path) as archive:
        with archive.open(info) as member:  # the header alone, before an array of its size is made
            shape, _, dtype = _npy_header(member)
        _check_member(info, shape, dtype)
        _check_memory(info.file_size)
        with archive.open(info) as member:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _check_member(info: zipfile.ZipInfo, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise ValueError where an array is to have more bytes than the archive says that its file has."""
    if min(shape, default=0) < 0 or dtype.itemsize * math.prod(shape) > info.file_size:
        raise ValueError(f"'{info.filename}' is to be {dtype} {shape}, in {info.file_size} bytes")


def _check_memory(size: int) -> None:
    """Raise ValueError where a compressed array would take more than half of the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory // 2:
        raise ValueError(
            f"{size / 2**30:.1f} GiB to unpack, of {memory / 2**30:.1f} GiB of memory; numpy.savez, "
            "which does not compress, needs none"
        )


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _safetensors(path: Path) -> Readers:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(path.stat().st_size, MAX_HEADER):
            raise ValueError(f"its header is longer than the file, or than {MAX_HEADER} bytes")
        header = json.loads(stream.read(length))
    return {
        name: partial(_tensor, path, entry, 8 + length)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _tensor(path: Path, entry: dict[str, Any], start: int) -> NDArray[Any]:
    if entry["dtype"] not in SAFETENSORS:
        raise ValueError(f"numpy has no {entry['dtype']}")
    dtype, shape = np.dtype(SAFETENSORS[entry["dtype"]]), tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    sizes = (begin, end, *shape)
    if any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError(f"its header names sizes {list(sizes)}")
    if end - begin != dtype.itemsize * math.prod(shape) or start + end > path.stat().st_size:
        raise ValueError("its header and its size contradict each other")
    if begin == end:
        return np.zeros(shape, dtype)
    array = np.memmap(path, dtype, "r", start + begin, shape)
    if entry["dtype"] != "BF16":
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32


_OPENERS = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors}
