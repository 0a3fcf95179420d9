"""The UCI handwritten digits that scikit-learn bundles: 1797 scans of 8×8 pixels, no download."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stages.data.base import ImageShape, Split, check_normalization

TEST_SAMPLES = 360
LEVELS = 16
"""Pixels of the original are 0 .. 16, inclusive."""


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Scikit-learn's ``load_digits``, split once and for all into 1437 / 360, stratified by class.

    Args:
        mean: of the training pixels, in [0, 1].
        std: of the training pixels.
    """

    name: ClassVar[str] = "digits"
    num_classes: ClassVar[int] = 10
    shape: ClassVar[ImageShape] = (1, 8, 8)

    mean: tuple[float, ...] = (0.3053,)
    std: tuple[float, ...] = (0.3760,)

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std, channels=1)

    def train(self) -> Split:
        """1437 images."""
        return _splits()[0]

    def test(self) -> Split:
        """360 images."""
        return _splits()[1]

    def check(self) -> None:
        """Nothing can be missing: the images are part of scikit-learn."""

    def fingerprint(self) -> str:
        """The sha256 of all images and labels, and the normalization."""
        digest = hashlib.sha256(repr((self.name, self.mean, self.std)).encode())
        for split in _splits():
            digest.update(split.images.tobytes() + split.labels.tobytes())
        return digest.hexdigest()


@lru_cache(maxsize=1)
def _splits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits  # a second of import, spent only where digits are used
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / LEVELS)).astype(np.uint8).reshape(-1, *Digits.shape)
    labels = labels.astype(np.int64)
    rows = np.arange(len(labels))
    train, test = train_test_split(rows, test_size=TEST_SAMPLES, stratify=labels, random_state=0)
    return _rows(images, labels, train), _rows(images, labels, test)


def _rows(images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> Split:
    ordered = np.sort(rows)
    return Split(images=images[ordered], labels=labels[ordered])
