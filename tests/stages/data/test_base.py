from __future__ import annotations

import textwrap

import numpy as np
import pytest

from pipeline.errors import ConfigError
from stages.data.base import Data, Split, check_normalization, class_names, outputs_for
from stages.data.batches import batches
from stages.data.cifar10 import Cifar10
from stages.data.digits import Digits
from stages.data.image_folder import ImageFolder
from stages.data.mnist import Mnist
from tests.composed import built


@pytest.mark.parametrize(
    "images", [np.zeros((2, 3), "<U1"), np.zeros(2, np.float32), np.zeros((2, 3), complex)]
)
def test_a_split_refuses_what_is_no_batch_of_numbers(images):
    with pytest.raises(
        ValueError, match=r"images=.*: must be uint8 of shape \(N, C, H, W\), or floats or integers of shape"
    ):
        Split(images=images, labels=np.zeros(2, np.int64))


@pytest.mark.parametrize("shape", [(3,), (1, 49, 10), (2, 2, 2, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int16, np.uint8])
def test_a_split_takes_numbers_of_any_rank(shape, dtype):
    assert len(Split(images=np.zeros((5, *shape), dtype), labels=np.zeros(5, np.int64))) == 5


@pytest.mark.parametrize("labels", [np.zeros((2, 4), np.float32), np.zeros((2, 4, 4), np.int64)])
def test_a_split_takes_targets_of_any_shape(labels):
    assert len(Split(images=np.zeros((2, 1, 4, 4), np.uint8), labels=labels)) == 2


def test_a_split_refuses_labels_that_do_not_match():
    for labels in (np.zeros(3, np.int64), np.zeros(2, np.int32), np.array(1, np.int64)):
        with pytest.raises(ValueError, match=r"labels=int.*: must be int64 or float32 of shape \(2, …\)"):
            Split(images=np.zeros((2, 1, 4, 4), np.uint8), labels=labels)


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        (np.array([0, 6, 2]), 7),
        (np.array([[[0, 3], [-100, 255]]]), 4),
        (np.array([0, 255]), 256),
        (np.zeros((5, 2, 4, 4), np.float32), 2),
        (np.zeros(5, np.float32), 1),
        (np.zeros((5, 3), np.float32), 3),
    ],
)
def test_labels_call_for_outputs(labels, outputs):
    assert outputs_for(labels) == outputs


def test_labels_that_are_no_targets_are_refused():
    with pytest.raises(ValueError, match="labels=-1: classes must be 0 or more"):
        outputs_for(np.array([0, -1]))


def test_class_names_are_optional():
    assert class_names(Digits()) is None


class Incomplete:
    """Lacks all that the protocol asks for but two."""

    name, num_classes = "incomplete", 3


def test_what_a_users_class_lacks_is_named_and_the_example_works(tmp_path, monkeypatch):
    """The example of the message is a module of its own, which is run as a user would."""
    own = ("~data.mean", "~data.std")  # of the data set whose place it takes
    with pytest.raises(ConfigError) as error:
        built(*own, "data._target_=tests.stages.data.test_base.Incomplete")
    _, named, example = str(error.value).partition("; a complete example:\n")
    assert named and "it lacks check, fingerprint, mean, shape, std, test, train;" in str(error.value)
    for split, count in (("train", 4), ("test", 2)):
        np.save(tmp_path / f"{split}_x.npy", np.full((count, 6, 128), 0.5, np.float32))
        np.save(tmp_path / f"{split}_y.npy", np.arange(count) % 3)
    (tmp_path / "mine_of_the_example.py").write_text(textwrap.dedent(example))
    monkeypatch.syspath_prepend(tmp_path)
    run = built(*own, "data._target_=mine_of_the_example.Mine", f"+data.folder={tmp_path}")
    data = run.stages["train"].data
    data.check()
    x, y = next(batches(data.train(), 4, data))
    assert x.shape == (4, 6, 128) and (x == 0.5).all() and y.tolist() == [0, 1, 2, 0]


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
