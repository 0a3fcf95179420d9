"""A user's own images: one folder a class, as a folder or as a .zip that is never extracted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.errors import PipelineError
from stages.data.base import ImageShape, Split, check_normalization
from stages.data.decode import decode, image_size
from stages.data.listing import Listing, list_images

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CACHE = Path("outputs/data/image_folder")


def image_folder(
    *,
    train: Path,
    test: Path,
    size: int | tuple[int, int] | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    cache: Path = CACHE,
) -> ImageFolder:
    """Name the splits as the configuration does; on the object, these names are the methods'.

    Relative paths start at the folder the command starts in. See `ImageFolder` for the rest.
    """
    return ImageFolder(train_path=train, test_path=test, size=size, mean=mean, std=std, cache=cache)


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images in class folders, decoded once to RGB and kept as memory-mapped arrays.

    Classes are the sorted names of the folders; both splits must have the same.

    Args:
        train_path: folder or .zip of the training images.
        test_path: folder or .zip of the test images.
        size: resize to this height and width (one number: square), by scaling and cropping the centre;
            None where all images have one size already.
        mean: of pixels in [0, 1], red, green, blue.
        std: of pixels in [0, 1].
        cache: folder of the decoded arrays, which take H·W·3 bytes an image.
    """

    name: ClassVar[str] = "image_folder"

    train_path: Path
    test_path: Path
    size: int | tuple[int, int] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    cache: Path = CACHE

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std, channels=3)
        if self.size is not None and min(_pair(self.size)) < 1:
            raise ValueError(f"size={self.size}: must be at least 1 pixel")

    @property
    def num_classes(self) -> int:
        """As many as there are class folders."""
        return len(self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class folders' names; a label is an index into them."""
        return self._listings[0].classes

    @cached_property
    def shape(self) -> ImageShape:
        """``(3, *size)``, or the first training image's size where `size` is None."""
        train = self._listings[0]
        height, width = image_size(train, train.names[0]) if self.size is None else _pair(self.size)
        return 3, height, width

    def train(self) -> Split:
        """The training images; the first call decodes them."""
        return self._split(self._listings[0])

    def test(self) -> Split:
        """The test images; the first call decodes them."""
        return self._split(self._listings[1])

    def check(self) -> None:
        """Find all images of both splits, and read the first one's size."""
        _ = self.shape

    def fingerprint(self) -> str:
        """A sha256 over the listings' fingerprints (paths, sizes, CRC-32 or times) and the settings."""
        settings = (self.name, self.size, self.mean, self.std)
        contents = [listing.fingerprint for listing in self._listings]
        return hashlib.sha256(repr((settings, contents)).encode()).hexdigest()

    @cached_property
    def _listings(self) -> tuple[Listing, Listing]:
        train, test = list_images(self.train_path, "data.train"), list_images(self.test_path, "data.test")
        if train.classes != test.classes:
            one_sided = sorted(set(train.classes) ^ set(test.classes))
            raise PipelineError(
                f"data.train={train.path} and data.test={test.path} differ in their class folders: "
                f"{', '.join(map(repr, one_sided[:5]))}{', …' if len(one_sided) > 5 else ''} "
                f"{'is' if len(one_sided) == 1 else 'are'} in one of them only "
                f"({len(train.classes)} and {len(test.classes)} classes).\n"
                "Remedy: give both the same class folders."
            )
        return train, test

    def _split(self, listing: Listing) -> Split:
        images = decode(listing, self.shape, resize=self.size is not None, cache=self.cache)
        return Split(images=images, labels=np.array(listing.labels, dtype=np.int64))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
