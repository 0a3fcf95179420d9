"""Which samples are shown, in which order, and that their pictures are the samples."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from stages.reporting.samples import MOST_SAMPLES, changed_samples, class_name

PREDICTIONS = {
    "labels": np.array([0, 1, 2, 0]),
    "float": np.array([1, 1, 0, 0]),
    "integer": np.array([0, 2, 1, 0]),
}


def pixels(address: str) -> np.ndarray:
    prefix = "data:image/png;base64,"
    assert address.startswith(prefix)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.removeprefix(prefix)))))


@pytest.mark.parametrize("channels", [1, 3])
def test_those_that_became_wrong_come_first_with_their_own_pictures(channels):
    images = np.random.default_rng(0).integers(0, 256, (9, channels, 5, 8), np.uint8)
    rows = np.array([1, 3, 4, 8])
    shown = changed_samples(PREDICTIONS, images, rows, ("cat", "dog", "ox"))
    assert [(s.row, s.label, s.before, s.after, s.change) for s in shown] == [
        (3, "dog", "dog", "ox", "broken"),
        (1, "cat", "dog", "cat", "corrected"),
        (4, "ox", "cat", "dog", "wrong"),
    ]
    for sample in shown:
        found = pixels(sample.picture)[::12, ::12]  # enlarged without smoothing
        expected = images[sample.row].transpose(1, 2, 0)
        assert np.array_equal(found, expected[..., 0] if channels == 1 else expected)


def test_large_images_are_reduced_and_what_is_no_image_has_no_picture():
    large = np.zeros((4, 3, 900, 600), np.uint8)
    assert pixels(changed_samples(PREDICTIONS, large, np.arange(4), None)[0].picture).shape == (192, 128, 3)
    for other in (
        np.zeros((4, 3, 8, 8), np.float32),
        np.zeros((4, 7), np.uint8),
        np.zeros((4, 2, 8, 8), np.uint8),
    ):
        assert {s.picture for s in changed_samples(PREDICTIONS, other, np.arange(4), None)} == {""}


def test_a_page_holds_so_many_at_most():
    n = 3 * MOST_SAMPLES
    predictions = {"labels": np.zeros(n, int), "float": np.zeros(n, int), "integer": np.ones(n, int)}
    assert len(changed_samples(predictions, np.zeros((n, 4)), np.arange(n), None)) == MOST_SAMPLES


def test_a_class_without_a_name_goes_by_its_index():
    assert [class_name(i, names) for i, names in ((1, None), (1, ("a",)), (0, ("a",)))] == ["1", "1", "a"]
