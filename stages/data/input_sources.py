"""What a user's names of inputs stand for: files of images and arrays, found without decoding any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.data.array_files import SUFFIXES, ArrayFile, split_name
from stages.data.listing import EXTENSIONS


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """A file that should be an image.

    Args:
        name: as it is given, or found in a folder that is.
        path: where it lies.
    """

    name: str
    path: Path

    def samples(self, shape: tuple[int, ...]) -> int:
        """One."""
        return 1


@dataclass(frozen=True, kw_only=True)
class RefusedSource:
    """What is nothing that could be read.

    Args:
        name: as it is given.
        why: what is wrong with it.
    """

    name: str
    why: str

    def samples(self, shape: tuple[int, ...]) -> int:
        """One."""
        return 1


@dataclass(frozen=True, kw_only=True)
class ArraySource:
    """An array in a file.

    Args:
        name: the file, or the file and a key: ``all.npz:x``.
    """

    name: str

    def read(self) -> NDArray[Any]:
        """The array, memory-mapped where it can be. Raises `PipelineError`, without the name in it."""
        path, key = split_name(self.name)
        try:
            file = ArrayFile(path, "input")
            keys = file.keys()
            if not key and len(keys) == 1:
                key = keys[0]
            return file.read(key)
        except PipelineError as error:
            raise PipelineError(" ".join(str(error).removeprefix(f"input={path}: ").split("\n"))) from error

    def samples(self, shape: tuple[int, ...]) -> int:
        """How many of `shape`; one where it is no array of these."""
        try:
            array = self.read()
        except PipelineError:
            return 1
        return len(array) if array.shape[1:] == shape else 1


def sources_of(name: str) -> Iterator[ImageSource | ArraySource | RefusedSource]:
    """What a name stands for: an image, an array, or the images of a folder, however deep, hidden ones aside.

    A folder's images come in the order of their paths.
    """
    path = Path(name)
    if split_name(name)[0].suffix.lower() in SUFFIXES and not path.is_dir():
        yield ArraySource(name=name)
    elif path.is_dir():
        found = sorted(_walk(path))
        if not found:
            yield RefusedSource(name=name, why=f"holds no images ({', '.join(sorted(EXTENSIONS))})")
        yield from (ImageSource(name=str(one), path=one) for one in found)
    elif path.is_file():
        yield ImageSource(name=name, path=path)
    else:
        yield RefusedSource(name=name, why=f"no such file or folder (looked in {Path.cwd()})")


def _walk(root: Path) -> Iterator[Path]:
    """The images below a folder; what is hidden is passed over."""
    for folder, folders, files in os.walk(root):
        folders[:] = [one for one in folders if not one.startswith(".")]
        yield from (
            Path(folder) / one
            for one in files
            if not one.startswith(".") and Path(one).suffix.lower() in EXTENSIONS
        )
