"""Samples that a user names, as a program's input: images, folders of images, arrays.

An image becomes what the program's description says (`Preprocessing`, then ``(x / 255 − mean) / std``);
arrays are taken as ``data=arrays`` takes them: uint8 (N, C, H, W) are images, all else keeps its values, and
both are normalized. What cannot be read is said, by name, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.environment import available_cores
from pipeline.errors import PipelineError
from stages.data.array_files import SUFFIXES
from stages.data.batches import normalize
from stages.data.description import FILE, Description
from stages.data.files import check_readable
from stages.data.input_sources import ArraySource, ImageSource, RefusedSource, sources_of
from stages.data.preprocess import Preprocessing

Pixels = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a sample comes from.

    Args:
        input: the path, as it was given or found in a folder that was.
        row: of an array of several samples; None for an image, and for an array that is one sample.
    """

    input: str
    row: int | None = None

    def __str__(self) -> str:
        return self.input if self.row is None else f"{self.input} row {self.row}"


@dataclass(frozen=True, kw_only=True)
class InputBatch:
    """Samples that were read, and those that could not be.

    Args:
        places: of the rows of `x`, in order.
        x: float32 (B, *shape), normalized; B may be 0.
        refused: why there is no sample, by where it should have come from.
    """

    places: tuple[Origin, ...]
    x: Pixels
    refused: Mapping[Origin, str]

    def __len__(self) -> int:
        return len(self.places) + len(self.refused)


class GivenInputs:
    """The samples under some names.

    Args:
        names: as `sources_of` takes them.
        shape: of a sample, as the program takes it.
        description: what the program's folder says of its input; None where it says nothing.

    Raises:
        PipelineError: the description contradicts `shape`.
    """

    def __init__(
        self, names: Sequence[str], shape: tuple[int, ...], description: Description | None = None
    ) -> None:
        if description is not None and description.shape != shape:
            raise PipelineError(
                f"{FILE}: says that a sample is {description.shape}, and the program takes {shape}. Remedy: "
                "the file that belongs to the program, or none"
            )
        self._shape = shape
        self._description = description or Description(shape=shape)
        self._sources = [source for name in names for source in sources_of(name)]

    @property
    def images(self) -> bool:
        """Whether some of them are images."""
        return any(isinstance(source, ImageSource) for source in self._sources)

    @property
    def guess(self) -> Preprocessing | None:
        """What happens to images of which the description does not say it; None where it does."""
        if self._description.image is not None or not self._pictures():
            return None
        channels, height, width = self._shape
        return Preprocessing(size=(height, width), channels=channels)

    def __len__(self) -> int:
        """How many samples, as far as can be said without reading images."""
        return sum(source.samples(self._shape) for source in self._sources)

    def batches(self, batch_size: int) -> Iterator[InputBatch]:
        """Read all of them, in order, at most `batch_size` at a time; images by threads."""
        with ThreadPoolExecutor(available_cores()) as pool:
            pending: list[ImageSource | RefusedSource] = []
            for source in self._sources:
                if isinstance(source, ArraySource):
                    if pending:
                        yield self._decoded(pending, pool)
                        pending = []
                    yield from self._rows(source, batch_size)
                    continue
                pending.append(source)
                if len(pending) == batch_size:
                    yield self._decoded(pending, pool)
                    pending = []
            if pending:
                yield self._decoded(pending, pool)

    def _decoded(
        self, sources: Sequence[ImageSource | RefusedSource], pool: ThreadPoolExecutor
    ) -> InputBatch:
        read = list(pool.map(self._pixels, sources))
        places = [Origin(input=source.name) for source in sources]
        refused = {place: one for place, one in zip(places, read, strict=True) if isinstance(one, str)}
        good = [(place, one) for place, one in zip(places, read, strict=True) if not isinstance(one, str)]
        pixels = [one for _, one in good]
        x = self._normalized(np.stack(pixels)) if pixels else self._none()
        return InputBatch(places=tuple(place for place, _ in good), x=x, refused=refused)

    def _pixels(self, source: ImageSource | RefusedSource) -> NDArray[np.uint8] | str:
        """An image's pixels, uint8 (C, H, W); or why there are none."""
        if isinstance(source, RefusedSource):
            return source.why
        if not self._pictures():
            return (
                f"is no array, and the program takes samples of shape {self._shape}, which are no images. "
                f"Remedy: an array, {' or '.join(SUFFIXES)}"
            )
        how = self.guess or Preprocessing(**_tuples(self._description.image or {}))
        try:
            check_readable(source.path, how.max_bytes)
            with Image.open(source.path) as image:
                pixels = how.apply(image)
        except UnidentifiedImageError:
            return "is no image, or one of a format that Pillow does not know"
        except Exception as error:  # damaged files make Pillow raise OSError, SyntaxError, …
            return f"cannot be read ({_reason(error)})"
        if pixels.shape != self._shape:
            return (
                f"has {pixels.shape[1]}×{pixels.shape[2]} pixels, and the program takes {self._shape[1]}×"
                f"{self._shape[2]}. Remedy: scale it, or a run with data.size=…, which the program then knows"
            )
        return pixels

    def _rows(self, source: ArraySource, batch_size: int) -> Iterator[InputBatch]:
        """The samples of an array."""
        single = Origin(input=source.name)
        try:
            array = source.read()
            rows = self._fitted(array)
        except PipelineError as error:
            yield InputBatch(places=(), x=self._none(), refused={single: str(error)})
            return
        one = rows.shape[0] == 1 and array.shape == self._shape
        for start in range(0, len(rows), batch_size):
            part = np.array(rows[start : start + batch_size], order="C")
            here = [single if one else Origin(input=source.name, row=start + i) for i in range(len(part))]
            x = self._normalized(part)
            finite = [bool(np.isfinite(sample).all()) for sample in x]
            why = "holds NaN or infinity. Remedy: leave it out, or give numbers"
            yield InputBatch(
                places=tuple(place for place, good in zip(here, finite, strict=True) if good),
                x=x[finite],
                refused={place: why for place, good in zip(here, finite, strict=True) if not good},
            )

    def _fitted(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array as (N, *shape). Raises `PipelineError` where it is neither that nor one sample."""
        expected = ", ".join(map(str, self._shape))
        if array.dtype.kind not in "fiub":
            raise PipelineError(f"holds {array.dtype}, no real numbers. Remedy: save floats or integers")
        if array.shape[1:] == self._shape:
            return array
        if array.shape == self._shape:
            return array[np.newaxis]
        moved = (*self._shape[1:], self._shape[0])
        last = len(moved) > 1 and moved in (array.shape, array.shape[1:])
        raise PipelineError(
            f"is {array.dtype} {array.shape}, and the program takes (N, {expected}), or one sample "
            f"({expected}). Remedy: {'move its channels to the front' if last else 'reshape it'}"
        )

    def _normalized(self, rows: NDArray[Any]) -> Pixels:
        inputs = torch.from_numpy(rows if rows.dtype == np.uint8 else rows.astype(np.float32))
        normal: Pixels = normalize(inputs, self._description.mean, self._description.std).numpy()
        return normal

    def _none(self) -> Pixels:
        return np.empty((0, *self._shape), np.float32)

    def _pictures(self) -> bool:
        """Whether a sample may be an image."""
        return len(self._shape) == 3 and self._shape[0] in (1, 3)


def _tuples(said: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Preprocessing` as JSON has them, where pairs are lists."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
