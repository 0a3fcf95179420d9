"""CIFAR-10: 50,000 / 10,000 photographs of 32×32 pixels, the binary version.

A record is 3073 bytes: the label, then 1024 red, 1024 green and 1024 blue pixels, row by row; each of the
six files holds 10,000. A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from pipeline.errors import PipelineError
from stages.data.base import ImageShape, Split, check_normalization
from stages.data.download import download
from stages.data.files import check_readable, written_atomically

MIRRORS = ("https://www.cs.toronto.edu/~kriz",)
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORD = 1 + 3 * 32 * 32

MAX_FILE = 10_000 * RECORD
"""Bytes of each of the six files, as the format has them."""

MAX_ARCHIVE = 2**28
"""Bytes of the archive, and of all that is unpacked of it: the real one has 170 and 184 million."""

DAMAGED = (OSError, EOFError, ValueError, KeyError, IndexError, RecursionError, zlib.error, tarfile.TarError)
"""What reading a tar of any bytes raises."""


@dataclass(frozen=True, kw_only=True)
class Cifar10:
    """The archive ``cifar-10-binary.tar.gz`` in `root`, or the files extracted from it.

    Args:
        root: folder of the archive, or of ``cifar-10-batches-bin``; relative to the folder the command
            starts in. The archive is downloaded where neither is there, and extracted once.
        mirror: URL of a folder with the archive; None for its home.
        mean: of the training pixels in [0, 1], red, green, blue.
        std: of the training pixels.
    """

    name: ClassVar[str] = "cifar10"
    num_classes: ClassVar[int] = 10
    shape: ClassVar[ImageShape] = (3, 32, 32)

    root: Path = Path("outputs/data/cifar10")
    mirror: str | None = None
    mean: tuple[float, ...] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, ...] = (0.2470, 0.2435, 0.2616)

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std, channels=3)

    def train(self) -> Split:
        """50,000 images."""
        return _read(self._files(TRAIN_FILES))

    def test(self) -> Split:
        """10,000 images."""
        return _read(self._files(TEST_FILES))

    def check(self) -> None:
        """Find the files, or download and extract them."""
        self._files(TRAIN_FILES + TEST_FILES)

    def fingerprint(self) -> str:
        """The sha256 of the six files, and the normalization."""
        digest = hashlib.sha256(repr((self.name, self.mean, self.std)).encode())
        for file in self._files(TRAIN_FILES + TEST_FILES):
            _check_file(file, MAX_FILE)
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def _files(self, names: tuple[str, ...]) -> list[Path]:
        files = [self.root / FOLDER / name for name in names]
        if not all(file.is_file() for file in files):
            archive = self.root / ARCHIVE
            if not archive.is_file():
                download(archive, MIRRORS if self.mirror is None else (self.mirror,), ARCHIVE_SHA256)
            _extract(archive, self.root / FOLDER)
        return files


class _Bounded(io.RawIOBase):
    """A stream that raises after `MAX_ARCHIVE` bytes: headers of a tar, too, are as long as they say."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._left = stream, MAX_ARCHIVE

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_ARCHIVE:,} bytes")
        return data


def _check_file(file: Path, most: int) -> None:
    try:
        check_readable(file, most)
    except OSError as error:
        raise _damaged(file, str(error)) from error


def _opened(archive: Path) -> Any:
    """The tar, unzipped; some browsers unzip what they download, and leave the name."""
    with archive.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(archive) if zipped else archive.open("rb")


def _extract(archive: Path, folder: Path) -> None:
    """Write the six files into `folder`, each whole or not at all."""
    wanted = set(TRAIN_FILES + TEST_FILES)
    _check_file(archive, MAX_ARCHIVE)
    try:
        with _opened(archive) as stream, tarfile.open(fileobj=_Bounded(stream), mode="r|") as tar:
            for member in tar:
                name = Path(member.name).name  # the name alone: no path in the archive leads elsewhere
                if name not in wanted:
                    continue
                if not member.isreg() or not 0 < member.size <= MAX_FILE:
                    what = f"has {member.size:,} bytes" if member.isreg() else "is a link, folder or device"
                    raise tarfile.ReadError(f"'{name}' in it {what}: must be a file of at most {MAX_FILE:,}")
                if (source := tar.extractfile(member)) is not None:
                    with written_atomically(folder / name) as part, source, part.open("wb") as target:
                        shutil.copyfileobj(source, target)
                    wanted.remove(name)
    except DAMAGED as error:
        raise _damaged(archive, str(error) or type(error).__name__) from error
    if wanted:
        raise _damaged(archive, f"it lacks {', '.join(sorted(wanted))}")


def _read(files: list[Path]) -> Split:
    parts = []
    for file in files:
        _check_file(file, MAX_FILE)
        raw = np.fromfile(file, dtype=np.uint8)
        if raw.size == 0 or raw.size % RECORD:
            raise _damaged(file, f"{raw.size} bytes are not a whole number of {RECORD}-byte records")
        parts.append(raw.reshape(-1, RECORD))
    records = np.concatenate(parts)
    if (highest := records[:, 0].max()) >= Cifar10.num_classes:
        raise _damaged(files[0], f"it has label {highest}, beyond the ten classes")
    images = records[:, 1:].reshape(-1, *Cifar10.shape)
    return Split(images=images, labels=records[:, 0].astype(np.int64))


def _damaged(file: Path, reason: str) -> PipelineError:
    return PipelineError(
        f"{file} is not readable as CIFAR-10's binary version: {reason}.\n"
        "Remedy: delete it, and it is downloaded or extracted again; or point data.root=… to another folder."
    )
