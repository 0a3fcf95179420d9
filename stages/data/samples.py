"""What arrays have to be to serve as inputs and as targets; shared by all data sets of a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.data.base import (
    SampleShape,
    Split,
    check_finite_constants,
    check_normalization,
    outputs_for,
)

ChannelLayout = Literal["channels_first", "channels_last", "no_channels"]
"""Where an input's channels are: (N, C, …), (N, …, C), or nowhere: (N, …) becomes (N, 1, …)."""

TargetKind = Literal["auto", "classes", "numbers", "none"]
"""Whether labels are classes, int64, or numbers, float32; ``auto`` goes by their type. ``none``: there are no
labels, and all samples are of class 0."""

EXACT = 2**24
"""Integers up to this are float32 values."""

LARGEST = float(np.finfo(np.float32).max)
"""Floats of 64 bits beyond this would be infinite to a network."""

BLOCK = 2**22
"""Numbers looked at together."""


def arranged(inputs: NDArray[Any], layout: ChannelLayout) -> NDArray[Any]:
    """The inputs with their channels second, as a view; truth values become 0 and 1."""
    if inputs.dtype == np.bool_:
        inputs = inputs.view(np.uint8)
        inputs = inputs if inputs.ndim != 4 else inputs.astype(np.int16)  # 0 and 1 are no pixels
    if layout == "channels_last":
        return np.moveaxis(inputs, -1, 1)
    return inputs[:, np.newaxis] if layout == "no_channels" else inputs


def as_targets(labels: NDArray[Any], kind: TargetKind, option: str) -> NDArray[Any]:
    """Labels as int64 classes or float32 numbers; a column (N, 1) of classes becomes (N,).

    ``auto`` takes integers for classes, but (N, K) of 0 and 1 for numbers, as several labels a sample have.

    Raises:
        PipelineError: no numbers, values that are not finite, or classes that are no integers.
    """
    if kind == "none":
        return np.zeros(len(labels), dtype=np.int64)
    if labels.dtype.kind not in "fiub" or labels.ndim < 1:
        raise _refusal(
            option, f"labels are {labels.dtype} {labels.shape}, no numbers (N, …)", "number the classes"
        )
    if labels.dtype.kind == "f" and not _held(labels).all():
        raise _refusal(option, "labels are not all finite as float32", "scale, or leave such samples out")
    if kind == "auto":
        several = labels.ndim == 2 and labels.shape[1] > 1 and bool(np.isin(labels, (0, 1)).all())
        kind = "numbers" if labels.dtype.kind == "f" or several else "classes"
    if kind == "numbers":
        return np.array(labels, dtype=np.float32)
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise _refusal(option, "labels are no integers, and classes are", "data.targets=numbers")
    classes = np.array(labels, dtype=np.int64)
    return classes[:, 0] if classes.shape[1:] == (1,) else classes


def check_inputs(inputs: NDArray[Any], option: str, *, tokens: bool = False) -> None:
    """Read all of them once, and raise `PipelineError` for what float32 does not hold, or is no token."""
    if tokens and inputs.dtype.kind not in "iu":
        raise _refusal(option, f"holds {inputs.dtype}, and tokens are integers", "data.tokens=false")
    rows = max(1, BLOCK // max(1, int(np.prod(inputs.shape[1:]))))
    for start in range(0, len(inputs), rows):
        block = inputs[start : start + rows]
        if block.dtype.kind == "f":
            bad = ~_held(block).reshape(len(block), -1).all(axis=1)
            if bad.any():
                row = start + int(bad.argmax())
                raise _refusal(
                    option,
                    f"sample {row} holds NaN or infinity, or what is one as float32",
                    "replace, scale or leave out such samples",
                )
        elif tokens and block.min(initial=0) < 0:
            raise _refusal(option, f"holds token {block.min()}", "number them from 0, what pads too")
        elif block.dtype.itemsize > 2 and max(int(block.max(initial=0)), -int(block.min(initial=0))) > EXACT:
            raise _refusal(
                option,
                f"holds integers beyond ±{EXACT:,}, which networks get as float32 and would not be exact",
                "scale them, or save them as floats",
            )


def check_splits(train: Split, test: Split, num_classes: int) -> None:
    """Raise `PipelineError` where the two contradict each other or the classes."""
    for name, split in (("train", train), ("test", test)):
        if not len(split):
            raise _refusal(f"data.{name}", "holds no samples", "give at least one")
    if train.images.shape[1:] != test.images.shape[1:] or train.images.dtype != test.images.dtype:
        raise _refusal(
            "data.train and data.test",
            f"samples are {_described(train.images)} and {_described(test.images)}",
            "give both one shape and type",
        )
    if train.labels.shape[1:] != test.labels.shape[1:] or train.labels.dtype != test.labels.dtype:
        raise _refusal(
            "data.train and data.test",
            f"labels are {_described(train.labels)} and {_described(test.labels)}",
            "give both one shape and type; data.targets=classes or data.targets=numbers",
        )
    for name, split in (("train", train), ("test", test)):
        if split.labels.dtype == np.int64 and split.labels.ndim == 1 and split.labels.max() >= num_classes:
            raise _refusal(
                f"data.{name}",
                f"label {split.labels.max()} is beyond the {num_classes} classes, 0..{num_classes - 1}",
                "correct data.num_classes or data.classes, or the labels",
            )


def count_outputs(*splits: Split) -> int:
    """As many as the labels of the splits call for."""
    try:
        return max(outputs_for(split.labels) for split in splits)
    except ValueError as error:
        raise _refusal(
            "data", str(error), "number the classes from 0; data.targets=numbers, if they are none"
        ) from None


def check_constants(
    mean: Sequence[float], std: Sequence[float], shape: SampleShape, *, tokens: bool = False
) -> None:
    """Raise `PipelineError` unless each is empty, one number, or one a channel; finite, deviations positive.

    Tokens have none.
    """
    if tokens and (mean or std):
        raise _refusal(
            "data.tokens=true", "mean and std would make other tokens", "data.mean=null data.std=null"
        )
    try:
        for name, values in (("mean", mean), ("std", std)):
            if len(values) > 1:
                pair = {"mean": (0.0,) * len(values), "std": (1.0,) * len(values)} | {name: tuple(values)}
                check_normalization(pair["mean"], pair["std"], shape[0])
        check_finite_constants(mean, std)
        if std and min(std) <= 0.0:
            raise ValueError(f"std={list(std)}: must be positive; inputs are divided by it")
    except ValueError as error:
        raise PipelineError(f"data.{error}; or one number for all.") from None


def _held(floats: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of them are finite, and stay so as float32."""
    held: NDArray[np.bool_] = np.isfinite(floats)
    return held & (np.abs(floats) <= LARGEST) if floats.dtype.itemsize > 4 else held


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype} (N{''.join(f', {side}' for side in array.shape[1:])})"


def _refusal(option: str, problem: str, remedy: str) -> PipelineError:
    return PipelineError(f"{option}: {problem}.\nRemedy: {remedy}.")
