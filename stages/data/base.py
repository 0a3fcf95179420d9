"""What a data set offers: uint8 images with labels, in two splits, and the constants to normalize by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

ImageShape = tuple[int, int, int]
"""One image: channels, height, width."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images and labels, row by row.

    Args:
        images: uint8 (N, C, H, W), in memory or memory-mapped.
        labels: int64 or float32, (N, …), as the task takes them; classes ``0 .. num_classes-1`` are (N,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[Any]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"images={_describe(self.images)}: must be uint8 of shape (N, C, H, W)")
        if self.labels.shape[:1] != self.images.shape[:1] or self.labels.dtype not in (np.int64, np.float32):
            raise ValueError(
                f"labels={_describe(self.labels)}: must be int64 or float32 of shape "
                f"({len(self.images)}, …), one an image"
            )

    def __len__(self) -> int:
        return len(self.labels)


@runtime_checkable
class Data(Protocol):
    """A data set: a frozen dataclass built from configuration.

    Reading happens in the methods; what they raise names the field to change (``data.root=…``).
    """

    @property
    def name(self) -> str:
        """For records: ``digits``, ``mnist``, …"""

    @property
    def num_classes(self) -> int:
        """Labels are ``0 .. num_classes-1``."""

    @property
    def shape(self) -> ImageShape:
        """Channels, height and width of every image."""

    @property
    def mean(self) -> tuple[float, ...]:
        """One a channel, of pixels in [0, 1]; see `stages.data.batches.normalize`."""

    @property
    def std(self) -> tuple[float, ...]:
        """One a channel, of pixels in [0, 1], > 0."""

    def train(self) -> Split:
        """The images to train and calibrate on."""

    def test(self) -> Split:
        """The images to measure on."""

    def check(self) -> None:
        """Raise `PipelineError` where the data is not there, before anything is computed from it."""

    def fingerprint(self) -> str:
        """Identity of the content and of what this object does to it; equal data, equal fingerprint."""


def check_normalization(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> None:
    """Raise `ValueError` unless there are `channels` means and as many positive deviations."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(f"{name}={list(values)}: must be {channels} numbers, one a channel")
    if min(std) <= 0.0:
        raise ValueError(f"std={list(std)}: must be positive; images are divided by it")


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"
