"""From a decoded image to the pixels that a network expects: torchvision's Resize and CenterCrop on PIL.

``Resize(s)`` scales so that the shorter side is s and the longer ``int(s · longer / shorter)``;
``Resize((h, w))`` ignores proportions. ``CenterCrop((h, w))`` starts at ``round((H − h) / 2)`` and
``round((W − w) / 2)``, halves to even, and fills with 0 what lies outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Side = int | tuple[int, int]
"""Pixels: one number, or height and width."""

MAX_PIXELS = 89_478_485
"""Above this Pillow warns of a bomb, and above twice as many it refuses."""

ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held: 5 .. 8 lie on their side."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to each image before it is normalized.

    Args:
        size: scale to cover this height and width (one number: square), then crop the centre; or None.
        resize: torchvision's Resize: one number is the shorter side; or None. Not beside `size`.
        crop: torchvision's CenterCrop, after `resize`; or None. Not beside `size`.
        interpolation: how pixels in between are computed, as PIL does, which also filters where it shrinks.
        channels: 3 for RGB, 1 for gray (ITU-R 601 luma).
        orient: turn photographs upright, as their EXIF data asks; torchvision does not. TIFF always is.
        max_pixels: of an image as it lies there, and as `resize` makes it: one that says more is not decoded.
    """

    size: Side | None = None
    resize: Side | None = None
    crop: Side | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] = "bilinear"
    channels: int = 3
    orient: bool = True
    max_pixels: int = field(default=MAX_PIXELS, repr=False)  # no part of what images become, nor of its key

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= 2 * MAX_PIXELS:
            raise ValueError(
                f"max_pixels={self.max_pixels}: must be 1 .. {2 * MAX_PIXELS}, Pillow's own limit"
            )
        for name in ("size", "resize", "crop"):
            value = getattr(self, name)
            if value is not None and min(_pair(value)) < 1:
                raise ValueError(f"{name}={value}: must be at least 1 pixel")
        if self.size is not None and (self.resize, self.crop) != (None, None):
            raise ValueError(
                f"size={self.size}: scales and crops by itself. Remedy: leave it out, or "
                f"resize={self.resize} and crop={self.crop}"
            )
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels}: must be 3 (RGB) or 1 (gray)")

    @property
    def max_bytes(self) -> int:
        """The most that an image's file may have: four channels of 16 bits a pixel, and a header."""
        return 8 * self.max_pixels + 2**20

    @property
    def fixed(self) -> tuple[int, int] | None:
        """The height and width that all images get; None where they depend on the image."""
        for side in (self.size, self.crop):
            if side is not None:
                return _pair(side)
        return None if isinstance(self.resize, int) else self.resize

    def upright(self, image: Image.Image) -> tuple[int, int]:
        """Height and width of an image that need not be decoded yet. Raises ValueError as `check_size`."""
        self.check_size(image)
        if image.format == "TIFF":
            image.load()  # turns it upright, in every version of PIL
        on_its_side = self.orient and image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if on_its_side else (image.height, image.width)

    def sized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what an image of `height` and `width` becomes."""
        if self.fixed is not None:
            return self.fixed
        return (height, width) if self.resize is None else _scaled(self.resize, height, width)

    def check_size(self, image: Image.Image) -> None:
        """Raise ValueError for more than `max_pixels`, by the header alone: nothing is decoded for it."""
        width, height = image.size
        sizes = [(width, height, "")]
        if self.resize is not None and min(width, height) > 0:
            high, wide = _scaled(self.resize, height, width)
            sizes.append((wide, high, f" after resize={self.resize}"))
        for wide, high, when in sizes:
            if wide * high > self.max_pixels:
                raise ValueError(
                    f"it has {wide}×{high} pixels{when}: must be at most data.max_pixels={self.max_pixels}"
                )

    def apply(self, image: Image.Image) -> NDArray[np.uint8]:
        """The pixels, uint8 (C, H, W).

        Raises:
            ValueError: pixels that are no integers of 8 or 16 bits, or more than `max_pixels`.
        """
        self.check_size(image)
        image = _eight_bits(ImageOps.exif_transpose(image) if self.orient else image)
        image = image.convert("RGB" if self.channels == 3 else "L")
        how = Image.Resampling[self.interpolation.upper()]
        if self.size is not None:
            height, width = _pair(self.size)
            image = ImageOps.fit(image, (width, height), how)
        if self.resize is not None:
            height, width = _scaled(self.resize, image.height, image.width)
            image = image.resize((width, height), how)
        if self.crop is not None:
            image = _centre(image, *_pair(self.crop))
        pixels = np.asarray(image)
        return pixels[np.newaxis] if self.channels == 1 else pixels.transpose(2, 0, 1)


def _pair(side: Side) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else side


def _scaled(resize: Side, height: int, width: int) -> tuple[int, int]:
    if not isinstance(resize, int):
        return resize
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def _centre(image: Image.Image, height: int, width: int) -> Image.Image:
    top, left = _start(image.height, height), _start(image.width, width)
    return image.crop((left, top, left + width, top + height))


def _start(side: int, crop: int) -> int:
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The upper 8 bits of 16-bit gray, which PIL keeps of colour too; gray it would cut at 255."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image)
        if levels.min(initial=0) >= 0 and levels.max(initial=0) < 2**16:
            return Image.fromarray((levels.astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"its pixels are of mode {image.mode}, not of 8 or 16 bits a channel")
    return image
