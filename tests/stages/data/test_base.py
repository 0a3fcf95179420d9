from __future__ import annotations

import numpy as np
import pytest

from stages.data.base import Data, Split, check_normalization
from stages.data.cifar10 import Cifar10
from stages.data.digits import Digits
from stages.data.image_folder import ImageFolder
from stages.data.mnist import Mnist


def test_a_split_refuses_float_images():
    with pytest.raises(
        ValueError, match=r"images=float32\[2, 1, 4, 4\]: must be uint8 of shape \(N, C, H, W\)"
    ):
        Split(images=np.zeros((2, 1, 4, 4), np.float32), labels=np.zeros(2, np.int64))


def test_a_split_refuses_labels_that_do_not_match():
    with pytest.raises(ValueError, match=r"labels=int64\[3\]: must be int64 or float32 of shape \(2, …\)"):
        Split(images=np.zeros((2, 1, 4, 4), np.uint8), labels=np.zeros(3, np.int64))


def test_normalization_is_checked():
    with pytest.raises(ValueError, match=r"mean=\[0.5\]: must be 3 numbers"):
        check_normalization((0.5,), (1.0, 1.0, 1.0), channels=3)
    with pytest.raises(ValueError, match=r"std=\[0.0\]: must be positive"):
        check_normalization((0.5,), (0.0,), channels=1)


@pytest.mark.parametrize("data", [Digits(), Mnist(), Cifar10()])
def test_data_sets_follow_the_protocol(data):
    assert isinstance(data, Data)
    assert len(data.mean) == len(data.std) == data.shape[0]


def test_an_image_folder_has_all_that_the_protocol_asks_for():
    """`isinstance` would run its properties, which look for the images."""
    asked = [name for name in vars(Data) if not name.startswith("_")]
    assert len(asked) >= 9
    assert all(hasattr(ImageFolder, name) for name in asked)
