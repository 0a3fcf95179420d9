"""CIFAR-10: 50,000 / 10,000 photographs of 32×32 pixels, the binary version.

A record is 3073 bytes: the label, then 1024 red, 1024 green and 1024 blue pixels, row by row; each of the
six files holds 10,000. A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.errors import PipelineError
from stages.data.base import ImageShape, Split, check_normalization
from stages.data.download import download
from stages.data.files import written_atomically

MIRRORS = ("https://www.cs.toronto.edu/~kriz",)
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORD = 1 + 3 * 32 * 32


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


def _extract(archive: Path, folder: Path) -> None:
    """Write the six files into `folder`, each whole or not at all."""
    wanted = set(TRAIN_FILES + TEST_FILES)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name  # the name alone: no path in the archive leads elsewhere
                if name in wanted and (source := tar.extractfile(member)) is not None:
                    with written_atomically(folder / name) as part, source, part.open("wb") as target:
                        shutil.copyfileobj(source, target)
                    wanted.remove(name)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise _damaged(archive, str(error)) from error
    if wanted:
        raise _damaged(archive, f"it lacks {', '.join(sorted(wanted))}")


def _read(files: list[Path]) -> Split:
    parts = []
    for file in files:
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
