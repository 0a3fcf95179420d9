"""Data sets and networks of other tasks than classification, learned in seconds; used by whole runs.

Images are random smooth patches of 8×8 pixels; what is asked about them is a property of their brightness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.data.base import ImageShape, Split


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Random images; subclasses say what is asked."""

    name: ClassVar[str] = "patches"
    shape: ClassVar[ImageShape] = (1, 8, 8)
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    num_classes: ClassVar[int] = 1

    def train(self) -> Split:
        return self._split(0, 512)

    def test(self) -> Split:
        return self._split(1, 128)

    def check(self) -> None:
        pass

    def fingerprint(self) -> str:
        return type(self).__name__

    def labels(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """The answers about images in 0..1, (N, 8, 8)."""
        raise NotImplementedError

    def _split(self, seed: int, samples: int) -> Split:
        generator = np.random.default_rng(seed)
        coarse = generator.integers(0, 256, (samples, 4, 4)).repeat(2, 1).repeat(2, 2).astype(np.uint8)
        images = coarse[:, None]
        return Split(images=images, labels=self.labels(images[:, 0].astype(np.float32) / 255))


class Brightness(Patches):
    """Regression: the mean brightness of the left and of the right half."""

    num_classes = 2

    def labels(self, images: NDArray[np.float32]) -> NDArray[Any]:
        halves = images.reshape(-1, 8, 2, 4).mean(axis=(1, 3))
        return (10.0 * halves).astype(np.float32)


class Brighter(Patches):
    """Binary: whether the left half is the brighter one; two classes, as of two folders."""

    num_classes = 2

    def labels(self, images: NDArray[np.float32]) -> NDArray[Any]:
        return (images[:, :, :4].mean((1, 2)) > images[:, :, 4:].mean((1, 2))).astype(np.int64)


class Quarters(Patches):
    """Multilabel: which of the four quarters are bright."""

    num_classes = 4

    def labels(self, images: NDArray[np.float32]) -> NDArray[Any]:
        return (images.reshape(-1, 2, 4, 2, 4).mean((2, 4)).reshape(-1, 4) > 0.5).astype(np.int64)


class Bright(Patches):
    """Segmentation: dark, middle or bright, for each pixel; the corner does not count."""

    num_classes = 3

    def labels(self, images: NDArray[np.float32]) -> NDArray[Any]:
        maps = np.digitize(images, (0.35, 0.65)).astype(np.int64)
        maps[:, 0, 0] = 255
        return maps


class FarAway(Bright):
    """Segmentation whose images have nothing that counts."""

    def labels(self, images: NDArray[np.float32]) -> NDArray[Any]:
        return np.full(images.shape, -100, np.int64)


class Brightest(Patches):
    """Embedding: the class is the brightest quarter."""

    num_classes = 4

    def labels(self, images: NDArray[np.float32]) -> NDArray[Any]:
        return images.reshape(-1, 2, 4, 2, 4).mean((2, 4)).reshape(-1, 4).argmax(1).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """(N, 1, 8, 8) to (N, outputs)."""

    weights: str | None = None
    outputs: int | None = None

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, self.outputs or num_classes)
        )

    def fingerprint(self) -> str:
        return ""


class _Pixels(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.first(x))))


@dataclass(frozen=True, kw_only=True)
class Pixelwise:
    """(N, 1, 8, 8) to (N, classes, 8, 8)."""

    weights: str | None = None

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        return _Pixels(num_classes)

    def fingerprint(self) -> str:
        return ""
