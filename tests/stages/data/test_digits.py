from __future__ import annotations

import numpy as np
import pytest

from stages.data.digits import Digits


def test_the_split_is_fixed_stratified_and_without_overlap():
    train, test = Digits().train(), Digits().test()
    assert train.images.shape == (1437, 1, 8, 8) and test.images.shape == (360, 1, 8, 8)
    shares = [np.bincount(split.labels, minlength=10) / len(split) for split in (train, test)]
    assert np.abs(shares[0] - shares[1]).max() < 0.005
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}


def test_pixels_are_the_originals_stretched_to_bytes():
    from sklearn.datasets import load_digits

    pixels = np.concatenate([Digits().train().images, Digits().test().images])
    assert pixels.min() == 0 and pixels.max() == 255
    original = np.sort(load_digits(return_X_y=True)[0], axis=None)
    assert (np.rint(np.sort(pixels, axis=None) * (16 / 255)) == original).all()


def test_default_normalization_is_that_of_the_training_split():
    pixels = Digits().train().images / 255
    assert Digits().mean == pytest.approx([pixels.mean()], abs=5e-4)
    assert Digits().std == pytest.approx([pixels.std()], abs=5e-4)


def test_the_fingerprint_covers_the_normalization():
    assert Digits().fingerprint() == Digits().fingerprint()
    assert Digits().fingerprint() != Digits(mean=(0.5,)).fingerprint()
