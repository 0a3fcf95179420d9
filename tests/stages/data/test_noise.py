from __future__ import annotations

import numpy as np
import pytest

from stages.data.noise import Noise


def test_the_same_pixels_every_time_and_others_in_the_other_split():
    data = Noise(shape=(3, 4, 5), samples=7, num_classes=4)
    assert data.train().images.shape == (7, 3, 4, 5)
    assert (Noise(shape=(3, 4, 5), samples=7, num_classes=4).train().images == data.train().images).all()
    assert (data.train().images != data.test().images).any()
    assert set(np.unique(data.train().labels)) <= set(range(4))
    assert data.fingerprint() != Noise(shape=(3, 4, 5), samples=8, num_classes=4).fingerprint()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (3, 0, 4)}, r"shape=\[3, 0, 4\]: height must be at least 1"),
        ({"samples": 0}, "samples=0: must be at least 1"),
        ({"mean": (0.5,)}, r"mean=\[0.5\]: must be 3 numbers"),
    ],
)
def test_values_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        Noise(**values)
