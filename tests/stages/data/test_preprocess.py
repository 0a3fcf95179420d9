"""The oracle is torchvision's documented arithmetic, written out here, and its own code where it imports."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.data.preprocess import Preprocessing

sides = st.integers(1, 40)


def picture(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def resized(image: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    """torchvision.transforms.functional.resize on a PIL image."""
    width, height = image.size
    short, long = (width, height) if width <= height else (height, width)
    longer = int(size * long / short)
    return image.resize((size, longer) if width <= height else (longer, size), how)


def cropped(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """torchvision.transforms.functional.center_crop, on an array (H, W, C)."""
    for axis in (0, 1):
        missing = max(size[axis] - pixels.shape[axis], 0)
        before_after = [(0, 0)] * 3
        before_after[axis] = (missing // 2, (missing + 1) // 2)
        pixels = np.pad(pixels, before_after)
    top, left = (round((pixels.shape[axis] - size[axis]) / 2.0) for axis in (0, 1))
    return pixels[top : top + size[0], left : left + size[1]]


@settings(deadline=None)
@given(sides, sides, sides, sides, sides, st.sampled_from(["bilinear", "bicubic", "nearest"]))
def test_resize_and_crop_are_torchvisions(height, width, side, crop_height, crop_width, interpolation):
    how = Preprocessing(resize=side, crop=(crop_height, crop_width), interpolation=interpolation)
    image = picture(height, width)
    whole = resized(image, side, Image.Resampling[interpolation.upper()])
    expected = cropped(np.asarray(whole), (crop_height, crop_width))
    assert (how.apply(image) == expected.transpose(2, 0, 1)).all()
    assert how.sized(height, width) == (crop_height, crop_width)
    alone = Preprocessing(resize=side, interpolation=interpolation)
    assert alone.sized(height, width) == alone.apply(image).shape[1:] == (whole.height, whole.width)


def test_what_resize_gives_is_crops_input():
    """36 then 28 of a picture of 72×54: the middle of the one that was scaled, not the whole."""
    image = picture(72, 54)
    own = Preprocessing(resize=36, crop=28).apply(image)
    assert (
        own == np.asarray(image.resize((36, 48), Image.Resampling.BILINEAR))[10:38, 4:32].transpose(2, 0, 1)
    ).all()
    assert (own != Preprocessing(size=28).apply(image)).any()


def test_a_pair_ignores_proportions():
    how = Preprocessing(resize=(3, 5))
    assert how.fixed == (3, 5) and how.apply(picture(10, 4)).shape == (3, 3, 5)


def test_gray_is_made_before_pixels_are_scaled():
    image = picture(9, 9)
    own = Preprocessing(resize=4, channels=1).apply(image)
    assert own.shape == (1, 4, 4)
    assert (own[0] == np.asarray(image.convert("L").resize((4, 4), Image.Resampling.BILINEAR))).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop": 0}, "crop=0: must be at least 1 pixel"),
        ({"resize": (3, 0)}, r"resize=\(3, 0\): must be at least 1 pixel"),
        ({"size": 4, "crop": 4}, "size=4: scales and crops by itself"),
        ({"channels": 4}, r"channels=4: must be 3 \(RGB\) or 1 \(gray\)"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**settings)
