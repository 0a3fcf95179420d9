"""Random pixels in any shape: for measuring time and memory, which do not depend on what images show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from pipeline.seed import derive_seed
from stages.data.base import ImageShape, Split, check_normalization


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Uniform pixels with random labels; the same ones every time.

    Args:
        shape: channels, height and width of an image.
        num_classes: of the labels.
        samples: in each split.
    """

    name: ClassVar[str] = "noise"

    shape: ImageShape = (3, 32, 32)
    num_classes: int = 10
    samples: int = 512
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.2887, 0.2887, 0.2887)

    def __post_init__(self) -> None:
        for name, size in zip(("channels", "height", "width"), self.shape, strict=True):
            if size < 1:
                raise ValueError(f"shape={list(self.shape)}: {name} must be at least 1")
        for name in ("num_classes", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        check_normalization(self.mean, self.std, self.shape[0])

    def train(self) -> Split:
        """`samples` images."""
        return self._split("train")

    def test(self) -> Split:
        """`samples` other images."""
        return self._split("test")

    def check(self) -> None:
        """Nothing can be missing."""

    def fingerprint(self) -> str:
        """The fields say it all."""
        return repr(self)

    def _split(self, name: str) -> Split:
        return _draw(name, self.shape, self.num_classes, self.samples)


@lru_cache(maxsize=2)
def _draw(name: str, shape: ImageShape, num_classes: int, samples: int) -> Split:
    generator = np.random.default_rng(derive_seed(0, f"noise/{name}"))
    images = generator.integers(0, 256, (samples, *shape), dtype=np.uint8)
    labels = generator.integers(0, num_classes, samples, dtype=np.int64)
    return Split(images=images, labels=labels)
