"""Image files to one memory-mapped uint8 array, decoded once, in parallel threads."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from pipeline.environment import available_cores
from pipeline.errors import PipelineError
from stages.data.base import ImageShape
from stages.data.files import written_atomically
from stages.data.listing import Listing
from stages.data.preprocess import Preprocessing

log = logging.getLogger(__name__)

VERSION = 2
"""Part of the cache's key: raise it where decoding gives other pixels than before."""

NAMED = 100
"""Most files that a message names."""

LARGE = 2**24
"""Pixels above which images are decoded one at a time, whatever the number of threads."""

CHUNK = 64
"""Images a task: enough that threads do not wait for each other's bookkeeping."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The images of a listing.

    Args:
        images: uint8 (K, C, H, W), a read-only memory map.
        rows: int64 (K,), the listing's images that these are; all but those that were skipped.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]


def decode(
    listing: Listing, how: Preprocessing, shape: ImageShape, *, skip_unreadable: bool, cache: Path
) -> Decoded:
    """All images of `listing`, as a memory map that is written once.

    The array lies in ``cache/<name>-<key>.npy``; the key covers the images' fingerprint, `how` and `shape`.
    Two processes that need it decode once.

    Args:
        listing: the images.
        how: what becomes of each.
        shape: (C, H, W); other sizes are refused.
        skip_unreadable: leave out what cannot be decoded, with a warning.
        cache: folder of decoded arrays.

    Raises:
        PipelineError: files that cannot be decoded, all of them named; or one of another size.
    """
    key = hashlib.sha256(repr((VERSION, listing.fingerprint, shape, how)).encode()).hexdigest()
    file = cache / f"{listing.path.stem}-{key[:16]}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if (decoded := _cached(file, len(listing.names), shape)) is None:
            _check_space(cache, len(listing.names) * int(np.prod(shape)), listing)
            _decode_all(listing, how, shape, skip_unreadable, file)
            decoded = _cached(file, len(listing.names), shape)
    if decoded is None:
        raise PipelineError(f"{file}: cannot be read back after it was written; check the disk.")
    if len(decoded.rows) < len(listing.names):
        absent = set(range(len(listing.names))).difference(decoded.rows.tolist())
        unreadable = {listing.names[row]: "" for row in sorted(absent)}
        if not skip_unreadable:
            raise _undecodable(listing, unreadable)
        _warn(_named(listing, unreadable, "are left out (data.skip_unreadable=true)"))
    return decoded


@lru_cache(maxsize=8)  # to open a .zip is to list it
def image_size(listing: Listing, how: Preprocessing) -> tuple[int, int]:
    """Height and width of what the first image becomes, or the first that can be read, from its header."""
    unreadable: dict[str, str] = {}
    with listing.reader() as read:
        for name in listing.names:
            try:
                with Image.open(io.BytesIO(read(name, how.max_bytes))) as image:
                    return how.sized(*how.upright(image))
            except Exception as error:  # as in _decode_all, which names them
                unreadable[name] = _reason(error)
    raise _undecodable(listing, unreadable)


def _cached(file: Path, count: int, shape: ImageShape) -> Decoded | None:
    """The array, or None where there is none or it is not what it should be."""
    try:
        images: NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
        rows = np.arange(count, dtype=np.int64)
        if len(images) < count:
            rows = np.load(_rows_of(file), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if images.shape != (len(rows), *shape) or images.dtype != np.uint8:
        return None
    return Decoded(images=images, rows=rows)


def _rows_of(file: Path) -> Path:
    return file.with_suffix(".rows.npy")


def _check_space(cache: Path, needed: int, listing: Listing) -> None:
    """A memory map that outgrows the disk kills the process, so look first."""
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise PipelineError(
            f"{listing.option}={listing.path}: decoded images need {needed / 2**30:.1f} GiB in {cache}, "
            f"which has {free / 2**30:.1f} GiB left.\n"
            "Remedy: give a smaller data.size=…, or data.cache=… on another disk."
        )


def _decode_all(
    listing: Listing, how: Preprocessing, shape: ImageShape, skip_unreadable: bool, file: Path
) -> None:
    names = listing.names
    unreadable: dict[int, str] = {}
    with written_atomically(file) as temporary, listing.reader() as read:
        large = threading.Lock()
        images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(names), *shape))

        def fill(start: int) -> None:
            for row in range(start, min(start + CHUNK, len(names))):
                try:
                    with (
                        Image.open(io.BytesIO(read(names[row], how.max_bytes))) as image,
                        large if image.width * image.height > LARGE else nullcontext(),
                    ):
                        pixels = how.apply(image)
                except Exception as error:  # damaged files make Pillow raise OSError, SyntaxError, …
                    unreadable[row] = _reason(error)
                    continue
                if pixels.shape != shape:
                    raise _of_another_size(listing, names[row], pixels.shape, shape)
                images[row] = pixels

        pool = ThreadPoolExecutor(available_cores())
        try:
            console = Console(stderr=True)
            tasks = pool.map(fill, range(0, len(names), CHUNK))
            total = -(-len(names) // CHUNK)
            description = f"  decoding {listing.path.name}"
            for _ in track(
                tasks, description, total, console=console, transient=True, disable=not console.is_terminal
            ):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        images.flush()
        if unreadable:
            reasons = {names[row]: unreadable[row] for row in sorted(unreadable)}
            if not skip_unreadable or len(unreadable) == len(names):
                raise _undecodable(listing, reasons)
            _leave_out(images, set(unreadable), temporary, file)


def _leave_out(images: NDArray[np.uint8], rows: set[int], temporary: Path, file: Path) -> None:
    """Write the array anew without these rows, and the list of the others beside it."""
    kept = np.array([row for row in range(len(images)) if row not in rows], dtype=np.int64)
    with written_atomically(_rows_of(file)) as part, part.open("wb") as stream:
        np.save(stream, kept)
    with written_atomically(temporary) as part:
        whole = (len(kept), *images.shape[1:])
        fewer = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=whole)
        for start in range(0, len(kept), CHUNK):
            fewer[start : start + CHUNK] = images[kept[start : start + CHUNK]]
        fewer.flush()


def _of_another_size(listing: Listing, name: str, size: tuple[int, ...], shape: ImageShape) -> PipelineError:
    return PipelineError(
        f"{listing.option}={listing.path}: '{name}' has {size[1]}×{size[2]} pixels, the first "
        f"training image {shape[1]}×{shape[2]}.\n"
        f"Remedy: give data.size={shape[1]}, or data.size=[height,width], to resize all images; or "
        "data.resize=… and data.crop=…, as the training had them."
    )


@lru_cache(maxsize=64)
def _warn(text: str) -> None:
    """Warn once a process; many stages ask for the same images."""
    log.warning("%s", text)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no image, or one of a format that Pillow does not know"
    return str(error) or type(error).__name__


def _named(listing: Listing, unreadable: Mapping[str, str], what: str) -> str:
    lines = [f"'{name}'{': ' if reason else ''}{reason}" for name, reason in unreadable.items()]
    if len(lines) > NAMED:
        lines[NAMED:] = [f"and {len(lines) - NAMED} more"]
    count = f"{len(unreadable)} of {len(listing.names)} files"
    return "\n  ".join([f"{listing.option}={listing.path}: {count} {what}:", *lines])


def _undecodable(listing: Listing, unreadable: Mapping[str, str]) -> PipelineError:
    return PipelineError(
        f"{_named(listing, unreadable, 'cannot be decoded')}\n"
        "Remedy: replace or delete them, or leave them out: data.skip_unreadable=true."
    )
