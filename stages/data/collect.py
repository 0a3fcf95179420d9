"""From a torch Dataset, sample by sample, to arrays: what is calibrated and measured on stays the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from pipeline.errors import PipelineError
from stages.data.preprocess import Preprocessing

IN_MEMORY = 2**30
"""Bytes; larger arrays lie in a temporary file, which goes with the process."""

Refusal = Callable[[str, str], PipelineError]
"""An error of a problem and its remedy, which names the option."""


def collect(dataset: Any, refusal: Refusal, description: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """All inputs, (N, …), and all labels, (N, …), of a Dataset with a length.

    A sample is a pair, or begins with one; tensors, arrays, numbers or PIL images, which become uint8
    (C, H, W). float64 becomes float32.

    Raises:
        PipelineError: what is no Dataset or holds no pairs; samples of unlike shapes; or samples that are
            others when they are read again, as random transforms make them.
    """
    count = _length(dataset, refusal)
    first = _pair(_item(dataset, 0, refusal), 0, refusal)
    for own, again in zip(first, _pair(_item(dataset, 0, refusal), 0, refusal), strict=True):
        if own.shape != again.shape or not np.array_equal(own, again, equal_nan=own.dtype.kind == "f"):
            raise refusal(
                "sample 0 is another one each time it is read, and a network is measured on what stays",
                "the transforms of evaluation, without random ones; training has training.float.augment",
            )
    whole = tuple(_empty((count, *part.shape), part.dtype, refusal) for part in first)
    items = (_pair(_item(dataset, row, refusal), row, refusal) for row in range(1, count))
    console = Console(stderr=True)
    shown = track(
        chain([first], items),
        description,
        count,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for row, parts in enumerate(shown):
        for array, part, like, what in zip(whole, parts, first, ("inputs", "labels"), strict=True):
            if part.shape != like.shape or not np.can_cast(part.dtype, like.dtype, "same_kind"):
                raise refusal(
                    f"sample {row} has {what} of {part.dtype} {part.shape}, "
                    f"sample 0 of {like.dtype} {like.shape}",
                    "one shape and type for all: resize images, pad sequences",
                )
            array[row] = part
    return whole[0], whole[1]


def _length(dataset: Any, refusal: Refusal) -> int:
    try:
        count = len(dataset)
    except TypeError:
        count = None
    if count is None or not hasattr(dataset, "__getitem__"):
        raise refusal(
            f"gives a {type(dataset).__name__}, which has no length or no samples by number",
            "a torch.utils.data.Dataset with __len__ and __getitem__, or a function that returns one",
        )
    if not count:
        raise refusal("holds no samples", "a Dataset of at least one")
    return int(count)


def _item(dataset: Any, row: int, refusal: Refusal) -> Any:
    try:
        return dataset[row]
    except PipelineError:
        raise
    except Exception as error:  # the user's own code: anything may be raised
        raise refusal(
            f"reading sample {row} failed: {type(error).__name__}: {error}", "correct the Dataset"
        ) from error


def _pair(item: Any, row: int, refusal: Refusal) -> tuple[NDArray[Any], NDArray[Any]]:
    if not isinstance(item, tuple | list) or len(item) < 2:
        kind = f"a {type(item).__name__}" + (
            f" of {', '.join(map(str, item))}" if isinstance(item, Mapping) else ""
        )
        raise refusal(f"sample {row} is {kind}", "a Dataset whose samples are pairs (input, label)")
    arrays = []
    for part, what in zip(item[:2], ("input", "label"), strict=True):
        try:
            array = _array(part)
        except (OSError, ValueError) as error:  # an image that is opened, and decoded here
            raise refusal(
                f"sample {row} has an image as its {what} that is not decoded: {error}",
                "scale it, or leave it out, within the Dataset",
            ) from error
        if array.dtype.kind not in "fiub" or (what == "input" and not array.ndim):
            raise refusal(
                f"sample {row} has a {type(part).__name__} as its {what}, no array of numbers",
                "transform it to a tensor within the Dataset",
            )
        arrays.append(array)
    return arrays[0], arrays[1]


def _array(part: Any) -> NDArray[Any]:
    if isinstance(part, Image.Image):
        return Preprocessing(channels=1 if part.mode in ("L", "1", "I;16") else 3, orient=False).apply(part)
    if isinstance(part, torch.Tensor):
        part = part.detach().cpu()
        part = (part.float() if part.dtype == torch.bfloat16 else part).numpy()
    array = np.asarray(part)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any], refusal: Refusal) -> NDArray[Any]:
    needed = int(np.prod(shape)) * dtype.itemsize
    if needed <= IN_MEMORY:
        return np.empty(shape, dtype)
    folder = tempfile.gettempdir()
    if (free := shutil.disk_usage(folder).free) < needed:
        raise refusal(
            f"its arrays need {needed / 2**30:.1f} GiB in {folder}, which has {free / 2**30:.1f} GiB left",
            "TMPDIR=… on another disk, or fewer samples",
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)
