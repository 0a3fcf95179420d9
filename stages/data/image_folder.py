"""A user's own images: one folder a class, as a folder or as a .zip that is never extracted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from pipeline.errors import PipelineError
from stages.data.base import ImageShape, Split, check_normalization
from stages.data.class_names import in_order, matched, read_classes, warn_of_order
from stages.data.decode import decode, image_size
from stages.data.listing import Listing, list_images
from stages.data.preprocess import MAX_PIXELS, Preprocessing, Side

IMAGENET = {3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 1: ((0.449,), (0.226,))}
"""Mean and deviation by the number of channels; of gray, the mean of the three."""

CACHE = Path("outputs/data/image_folder")


def image_folder(
    *,
    train: Path,
    test: Path,
    size: Side | None = None,
    resize: Side | None = None,
    crop: Side | None = None,
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bilinear",
    channels: int = 3,
    orient: bool = True,
    max_pixels: int = MAX_PIXELS,
    classes: Path | tuple[Any, ...] | None = None,
    skip_unreadable: bool = False,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    cache: Path = CACHE,
) -> ImageFolder:
    """Name the options as the configuration does; on the object, some names are the methods'.

    Relative paths start at the folder the command starts in. `mean` and `std` of None are ImageNet's. See
    `Preprocessing` and `ImageFolder` for the rest.
    """
    how = Preprocessing(
        size=size,
        resize=resize,
        crop=crop,
        interpolation=interpolation,
        channels=channels,
        orient=orient,
        max_pixels=max_pixels,
    )
    usual_mean, usual_std = IMAGENET[channels]
    return ImageFolder(
        train_path=train,
        test_path=test,
        preprocessing=how,
        class_list=classes,
        skip_unreadable=skip_unreadable,
        mean=usual_mean if mean is None else mean,
        std=usual_std if std is None else std,
        cache=cache,
    )


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Images in class folders, decoded once and kept as memory-mapped arrays.

    Classes are the names of the training split's folders, sorted as `in_order` does, or those of a list,
    which may name more than there are folders; the test split may lack some.

    Args:
        train_path: folder or .zip of the training images.
        test_path: folder or .zip of the test images.
        preprocessing: what becomes of each image before it is normalized.
        class_list: the class of each output, as a list or a file that `read_classes` knows; None for the
            training split's folders.
        skip_unreadable: leave out files that cannot be decoded, with a warning that names them.
        mean: of pixels in [0, 1], one a channel.
        std: of pixels in [0, 1].
        cache: folder of the decoded arrays, which take H·W·C bytes an image.
    """

    name: ClassVar[str] = "image_folder"

    train_path: Path
    test_path: Path
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    class_list: Path | tuple[Any, ...] | None = None
    skip_unreadable: bool = False
    mean: tuple[float, ...] = IMAGENET[3][0]
    std: tuple[float, ...] = IMAGENET[3][1]
    cache: Path = CACHE

    def __post_init__(self) -> None:
        check_normalization(self.mean, self.std, self.preprocessing.channels)

    @property
    def num_classes(self) -> int:
        """As many as the list names; without one, as there are class folders."""
        return len(self.classes)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; a label is an index into them."""
        train, test = self._listings
        if self.class_list is not None:
            return matched(read_classes(self.class_list), in_order({*train.classes, *test.classes}))
        if strangers := sorted(set(test.classes).difference(train.classes)):
            raise PipelineError(
                f"data.train={train.path} has no images of {', '.join(map(repr, strangers[:5]))}"
                f"{', …' if len(strangers) > 5 else ''}, which data.test={test.path} has "
                f"({len(train.classes)} and {len(test.classes)} classes).\n"
                "Remedy: give the training split all classes, or the class of each output: data.classes=…"
            )
        if train.empty:
            raise PipelineError(
                f"data.train={train.path}: class folder '{train.empty[0]}' holds no images.\n"
                "Remedy: fill it or delete it, or give the class of each output: data.classes=…"
            )
        classes = in_order(train.classes)
        warn_of_order(classes)
        return classes

    @cached_property
    def shape(self) -> ImageShape:
        """Channels, and the size that every image gets, or that the first training image has."""
        how = self.preprocessing
        return how.channels, *(how.fixed or image_size(self._listings[0], how))

    def train(self) -> Split:
        """The training images; the first call decodes them."""
        return self._split(self._listings[0])

    def test(self) -> Split:
        """The test images; the first call decodes them."""
        return self._split(self._listings[1])

    def check(self) -> None:
        """Find all images of both splits, and decode them unless it is done; names all that cannot be."""
        _ = self.classes, self.shape
        problems = []
        for read in (self.train, self.test):
            try:
                read()
            except PipelineError as problem:
                problems.append(str(problem))
        if problems:
            raise PipelineError("\n".join(problems))

    def fingerprint(self) -> str:
        """A sha256 over the listings' fingerprints (paths, sizes, CRC-32 or times) and the settings."""
        settings = (self.name, self.preprocessing, self.classes, self.skip_unreadable, self.mean, self.std)
        contents = [listing.fingerprint for listing in self._listings]
        return hashlib.sha256(repr((settings, contents)).encode()).hexdigest()

    @cached_property
    def _listings(self) -> tuple[Listing, Listing]:
        known = () if self.class_list is None else read_classes(self.class_list)
        train = list_images(self.train_path, "data.train", frozenset(known))
        return train, list_images(self.test_path, "data.test", frozenset({*known, *train.classes}))

    def _split(self, listing: Listing) -> Split:
        decoded = decode(
            listing,
            self.preprocessing,
            self.shape,
            skip_unreadable=self.skip_unreadable,
            cache=self.cache,
        )
        index = {name: position for position, name in enumerate(self.classes)}
        labels = np.array([index[name] for name in listing.classes], dtype=np.int64)[list(listing.labels)]
        return Split(images=decoded.images, labels=labels[decoded.rows])
