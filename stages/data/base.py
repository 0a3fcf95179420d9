"""What a data set offers: inputs with labels, in two splits, and the constants to normalize by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

SampleShape = tuple[int, ...]
"""One sample, without the batch: channels, height, width of an image; channels, length; features; tokens."""

ImageShape = tuple[int, int, int]
"""One image: channels, height, width."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Inputs and labels, row by row.

    Args:
        images: uint8 (N, C, H, W), which are images; or numbers of any other type or rank (N, …), floats or
            integers, which networks get as float32. In memory or memory-mapped.
        labels: int64 or float32 (N, …), as the task takes them; classes ``0 .. num_classes-1`` are (N,).
    """

    images: NDArray[Any]
    labels: NDArray[Any]

    def __post_init__(self) -> None:
        if self.images.ndim < 2 or self.images.dtype.kind not in "fiu":
            raise ValueError(
                f"images={_describe(self.images)}: must be uint8 of shape (N, C, H, W), "
                "or floats or integers of shape (N, …)"
            )
        if self.labels.shape[:1] != self.images.shape[:1] or self.labels.dtype not in (np.int64, np.float32):
            raise ValueError(
                f"labels={_describe(self.labels)}: must be int64 or float32 of shape "
                f"({len(self.images)}, …), one for each input"
            )

    def __len__(self) -> int:
        return len(self.labels)


@runtime_checkable
class Data(Protocol):
    """A data set: a frozen dataclass built from configuration.

    One that knows its classes' names has them, by index, as ``classes``; see `class_names`. One whose inputs
    are tokens, which networks take as int64, has ``tokens`` true.

    Reading happens in the methods; what they raise names the field to change (``data.root=…``).

    Example::

        from dataclasses import dataclass
        import numpy as np
        from stages.data.base import Split

        @dataclass(frozen=True, kw_only=True)
        class Mine:
            folder: str
            name = "mine"
            num_classes = 3
            shape = (6, 128)  # of a sample, without the batch
            mean = std = ()  # one number a channel, or none

            def train(self):
                return self._split("train")

            def test(self):
                return self._split("test")

            def _split(self, split):  # (N, 6, 128), and a class for each
                x, y = (np.load(f"{self.folder}/{split}_{part}.npy", mmap_mode="r") for part in "xy")
                return Split(images=x, labels=np.array(y, np.int64))

            def check(self):  # before anything is computed
                self.train(), self.test()

            def fingerprint(self):  # another one wherever the content is another
                return f"{self.folder} 1"
    """

    @property
    def name(self) -> str:
        """For records: ``digits``, ``mnist``, …"""

    @property
    def num_classes(self) -> int:
        """How many outputs the labels call for: classes are ``0 .. num_classes-1``; targets (N, K) want K."""

    @property
    def shape(self) -> SampleShape:
        """A sample's, without the batch: channels, height and width of images."""

    @property
    def mean(self) -> tuple[float, ...]:
        """One a channel, of pixels in [0, 1] where these are images; empty for none. See `normalize`."""

    @property
    def std(self) -> tuple[float, ...]:
        """One a channel, > 0; empty for none."""

    def train(self) -> Split:
        """The samples to train and calibrate on."""

    def test(self) -> Split:
        """The samples to measure on."""

    def check(self) -> None:
        """Raise `PipelineError` where the data is not there, before anything is computed from it."""

    def fingerprint(self) -> str:
        """Identity of the content and of what this object does to it; equal data, equal fingerprint."""


def class_names(data: Data) -> tuple[str, ...] | None:
    """The classes' names by index; None where the data set knows none."""
    names = getattr(data, "classes", None)
    return None if names is None else tuple(names)


def outputs_for(labels: NDArray[Any]) -> int:
    """How many outputs `labels` call for.

    Integers are classes ``0 .. K-1``, in maps (N, H, W) -100 and 255 aside, which mark pixels that do not
    count; floats (N, K, …) are K targets, floats (N,) one.

    Raises:
        ValueError: classes (N,) below 0.
    """
    if labels.dtype.kind == "f":
        return 1 if labels.ndim == 1 else int(labels.shape[1])
    if labels.ndim == 1 and labels.size and (lowest := labels.min()) < 0:
        raise ValueError(f"labels={lowest}: classes must be 0 or more")
    counted = labels if labels.ndim == 1 else labels[(labels >= 0) & (labels != 255)]
    return int(counted.max(initial=0)) + 1


def check_normalization(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> None:
    """Raise `ValueError` unless there are `channels` finite means and as many positive deviations."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(f"{name}={list(values)}: must be {channels} numbers, one a channel")
    check_finite_constants(mean, std)
    if min(std) <= 0.0:
        raise ValueError(f"std={list(std)}: must be positive; images are divided by it")


def check_finite_constants(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise `ValueError` where a mean or deviation is infinite or NaN."""
    for name, values in (("mean", mean), ("std", std)):
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{name}={list(values)}: must be finite")


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"
