"""MNIST: 60,000 / 10,000 handwritten digits of 28×28 pixels, in IDX files.

An IDX file is big-endian: two zero bytes, the type (8: uint8), the rank, a 32-bit size for each
dimension, then the elements in row-major order. Y. LeCun et al., Gradient-based learning, 1998.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.data.base import ImageShape, Split, check_normalization
from stages.data.download import download
from stages.data.files import check_readable

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
FILES: Mapping[str, str] = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""File → sha256 of its .gz as the mirrors have it. Files that are there already need only be valid IDX."""

UINT8 = 8

MAX_IMAGES = 2**20
"""The most samples of a file: sets of the same form have up to 814,255 (EMNIST)."""

MAX_BYTES = MAX_IMAGES * 28 * 28 + 2**20
"""The largest file as it lies there, zipped or not."""

DAMAGED = (OSError, EOFError, zlib.error, struct.error)


@dataclass(frozen=True, kw_only=True)
class Mnist:
    """The four IDX files in `root`, plain or .gz; those that are missing are downloaded.

    Args:
        root: folder of the files; relative to the folder the command starts in.
        mirror: URL of a folder with the .gz files; None for the public mirrors.
        mean: of the training pixels, in [0, 1].
        std: of the training pixels.
    """

    name: ClassVar[str] = "mnist"
    num_classes: ClassVar[int] = 10
    shape: ClassVar[ImageShape] = (1, 28, 28)

    root: Path = Path("outputs/data/mnist")
    mirror: str | None = None
    mean: tuple[float, ...] = (0.1307,)
    std: tuple[float, ...] = (0.3081,)

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std, channels=1)

    def train(self) -> Split:
        """60,000 images."""
        return self._split("train")

    def test(self) -> Split:
        """10,000 images."""
        return self._split("t10k")

    def check(self) -> None:
        """Find or download the four files, and look at the headers."""
        for name in FILES:
            with _open(self._file(name)) as stream:
                _read_header(stream, self._file(name), "images" in name)

    def fingerprint(self) -> str:
        """The sha256 of the four files as they lie there, and the normalization."""
        digest = hashlib.sha256(repr((self.name, self.mean, self.std)).encode())
        for name in FILES:
            _check_file(self._file(name))
            digest.update(self._file(name).read_bytes())
        return digest.hexdigest()

    def _file(self, name: str) -> Path:
        plain, zipped = self.root / name, self.root / f"{name}.gz"
        if plain.is_file():
            return plain
        if not zipped.is_file():
            download(zipped, MIRRORS if self.mirror is None else (self.mirror,), FILES[name])
        return zipped

    def _split(self, prefix: str) -> Split:
        image_file, label_file = (self._file(name) for name in FILES if name.startswith(prefix))
        images, labels = _read_idx(image_file, images=True), _read_idx(label_file, images=False)
        if len(images) != len(labels):
            raise PipelineError(f"{image_file} has {len(images)} images, {label_file} {len(labels)} labels")
        if labels.size and labels.max() >= self.num_classes:
            raise PipelineError(f"{label_file}: label {labels.max()} is not a digit")
        return Split(images=images[:, np.newaxis], labels=labels.astype(np.int64))


def _check_file(file: Path) -> None:
    try:
        check_readable(file, MAX_BYTES)
    except OSError as error:
        raise _unreadable(file, str(error)) from error


def _open(file: Path) -> Any:
    _check_file(file)
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _read_header(stream: Any, file: Path, images: bool) -> tuple[int, ...]:
    """Read the sizes; PipelineError unless the file is IDX of so many uint8 as a set of digits may have."""
    rank = 3 if images else 1
    try:
        header = stream.read(4 * (1 + rank))
        magic, *sizes = struct.unpack(f">{1 + rank}I", header)
    except DAMAGED as error:
        raise _unreadable(file, str(error)) from error
    if magic != UINT8 << 8 | rank:
        raise _unreadable(file, f"its magic number is {magic:#010x}, not {UINT8 << 8 | rank:#010x}")
    if tuple(sizes[1:]) != Mnist.shape[1:][: rank - 1]:
        raise _unreadable(file, f"its header says images of {tuple(sizes[1:])}, expected {Mnist.shape[1:]}")
    if not 1 <= sizes[0] <= MAX_IMAGES:
        raise _unreadable(file, f"its header says {sizes[0]} samples: must be 1 .. {MAX_IMAGES}")
    return tuple(sizes)


def _read_idx(file: Path, images: bool) -> NDArray[np.uint8]:
    """The elements: what the header says is read, and a byte more, however much a .gz would deliver."""
    with _open(file) as stream:
        sizes = _read_header(stream, file, images)
        count = math.prod(sizes)
        try:
            data = stream.read(count + 1)
        except DAMAGED as error:
            raise _unreadable(file, str(error)) from error
    if len(data) != count:
        held = f"{len(data)}" if len(data) < count else f"more than {count}"
        raise _unreadable(file, f"it holds {held} bytes of elements where its header says {list(sizes)}")
    return np.frombuffer(data, dtype=np.uint8).reshape(sizes)


def _unreadable(file: Path, reason: str) -> PipelineError:
    return PipelineError(
        f"{file} is not a readable IDX file of MNIST: {reason}.\n"
        "Remedy: delete it, and it is downloaded again; or point data.root=… to another folder."
    )
