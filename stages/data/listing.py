"""Class folders of images, on disk or inside a .zip: ``class/…/image.jpg``, found without decoding any."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.errors import PipelineError
from stages.data.files import check_readable

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


MAX_RATIO = 100
"""The most that an archive unpacks to, in its own bytes: images hardly shrink, bombs by a thousand."""

UNREADABLE_ZIP = (
    OSError, ValueError, RuntimeError, EOFError, OverflowError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What listing a .zip of any bytes raises."""

Read = Callable[[str, int], bytes]
"""From an image's path, and the most bytes that its file may have, to these.

Raises OSError or ValueError for what is absent, no regular file, or larger."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of one split.

    Args:
        option: the field that names it, for messages: ``data.train``.
        path: the folder or .zip.
        names: the images' paths inside it, sorted by class, then by path.
        labels: index into `classes`, one an image.
        classes: the names of the class folders that hold images, sorted.
        empty: the names of those that do not.
        fingerprint: sha256 over every image's path, size and, in a .zip, its CRC-32, in a folder its
            time of change; no image is read for it.
    """

    option: str
    path: Path
    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    empty: tuple[str, ...]
    fingerprint: str

    @contextmanager
    def reader(self) -> Iterator[Read]:
        """A function from an image's path to its bytes, which threads may share."""
        if self.path.is_dir():

            def read_file(name: str, most: int) -> bytes:
                check_readable(self.path / name, most)
                return (self.path / name).read_bytes()

            yield read_file
            return
        lock = threading.Lock()  # a ZipFile counts its readers without one
        with zipfile.ZipFile(self.path) as archive:
            members = {_slashed(info.filename): info for info in archive.infolist()}

            def read(name: str, most: int) -> bytes:
                if (size := members[name].file_size) > most:
                    raise ValueError(f"has {size:,} bytes: must have at most {most:,}")
                with lock:  # what is delivered beyond the declared size is never read
                    return archive.read(members[name])

            yield read


def list_images(path: Path, option: str, known: frozenset[str] = frozenset()) -> Listing:
    """Find the images under `path`, a folder or a .zip of class folders.

    A single folder around the class folders is passed over, as archives often have one, unless it is `known`
    to be a class. Hidden files and
    files that are not images by their extension are ignored. An archive is read again where it has changed.

    Raises:
        PipelineError: nothing there, no images, images outside class folders.
    """
    if path.is_dir():
        return _sorted_out(dict(_walk(path, option)), path, option, known)
    if path.is_file():
        status = path.stat()
        return _list_archive(path, option, known, (status.st_ino, status.st_size, status.st_mtime_ns))
    raise PipelineError(
        f"{option}={path}: no such folder or .zip (looked in {Path.cwd()}).\n"
        f"Remedy: give {option}=<folder>, with one sub-folder of images a class, or a .zip of that."
    )


@lru_cache(maxsize=8)
def _list_archive(path: Path, option: str, known: frozenset[str], state: tuple[int, ...]) -> Listing:
    """List the archive in this `state`. 60,000 images take half a second, in every job of a sweep."""
    return _sorted_out(_members(path, option), path, option, known)


def _sorted_out(found: Mapping[str, str | None], path: Path, option: str, known: frozenset[str]) -> Listing:
    """The images among the files `found`, by class."""
    parts = {name: name.rstrip("/").split("/") for name in found if not _hidden(name)}
    images = sorted(name for name in parts if name[name.rfind(".") :].lower() in EXTENSIONS)
    if not images:
        raise PipelineError(
            f"{option}={path}: holds no images ({', '.join(sorted(EXTENSIONS))}).\n"
            "Remedy: put one sub-folder a class into it, with that class's images."
        )
    tops = {parts[n][0] for n in images}
    wrapped = len(tops) == 1 and not tops & known and all(len(parts[n]) > 2 for n in images)
    depth = 1 if wrapped else 0
    if stray := next((name for name in images if len(parts[name]) < depth + 2), None):
        raise PipelineError(
            f"{option}={path}: '{stray}' lies in no class folder.\n"
            "Remedy: move each image into a sub-folder that is named after its class."
        )
    classes = tuple(sorted({parts[name][depth] for name in images}))
    folders = {parts[n][depth] for n in parts if found[n] is None and len(parts[n]) == depth + 1}
    images.sort(key=parts.__getitem__)
    index = {name: position for position, name in enumerate(classes)}
    digest = hashlib.sha256("\n".join(f"{name}\0{found[name]}" for name in images).encode())
    return Listing(
        option=option,
        path=path,
        names=tuple(images),
        labels=tuple(index[parts[name][depth]] for name in images),
        classes=classes,
        empty=tuple(sorted(folders.difference(classes))),
        fingerprint=digest.hexdigest(),
    )


def _walk(root: Path, option: str) -> Iterator[tuple[str, str | None]]:
    """Every file below `root` with its size and time of change, every folder with None.

    Links are followed, but not in a circle. What a link leads nowhere from, a FIFO or a device is listed by
    what it is: only its name says whether it should have been an image, and reading it will refuse it.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    try:
        while waiting:
            prefix, above = waiting.pop()
            status = (root / prefix).stat()
            if (here := (status.st_dev, status.st_ino)) in above:
                raise OSError("a link leads to a folder around it")
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    try:
                        status = entry.stat()
                    except OSError as error:  # a link to nothing, or to itself
                        yield name, f"{error.strerror}"
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        yield name, None
                        waiting.append((f"{name}/", above | {here}))
                    else:
                        yield name, f"{status.st_size} {status.st_mtime_ns}"
    except OSError as error:
        raise PipelineError(
            f"{option}={root}: '{prefix.rstrip('/')}' cannot be listed ({error.strerror or error}).\n"
            "Remedy: delete the link, or make the folder readable."
        ) from error


def _members(path: Path, option: str) -> dict[str, str | None]:
    """Every file of the archive with its size and CRC-32, every folder with None.

    Raises:
        PipelineError: no .zip, or one that says it holds far more than its bytes can of images.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except UNREADABLE_ZIP as error:
        raise PipelineError(
            f"{option}={path}: not a readable .zip ({error}).\n"
            f"Remedy: give {option}=<folder or .zip>; other archives must be extracted first."
        ) from error
    total, own = sum(info.file_size for info in infos), path.stat().st_size
    if total > max(MAX_RATIO * own, 2**28):
        raise PipelineError(
            f"{option}={path}: its files say that they have {total / 2**30:.1f} GiB, in an archive of "
            f"{own / 2**20:.1f} MiB: more than {MAX_RATIO} times as much, which images do not.\n"
            f"Remedy: where you trust its source, extract it, and give the folder: {option}=FOLDER."
        )
    return {
        name: None if name.endswith("/") else f"{info.file_size} {info.CRC:08x}"
        for name, info in ((_slashed(info.filename), info) for info in infos)
    }


def _slashed(name: str) -> str:
    """A path as the format has it; some programs on Windows write it with backslashes."""
    return name.replace("\\", "/")


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
