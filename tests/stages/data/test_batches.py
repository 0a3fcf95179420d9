from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.data.base import Split
from stages.data.batches import batches, calibration_subset, normalize, subset
from stages.data.digits import Digits


def split_of(count: int) -> Split:
    pixels = np.arange(count * 64, dtype=np.int64).reshape(count, 1, 8, 8) % 256
    return Split(images=pixels.astype(np.uint8), labels=np.arange(count, dtype=np.int64))


@given(st.integers(0, 255), st.floats(0, 1), st.floats(0.05, 2))
def test_normalize_is_its_equation(pixel, mean, std):
    x = normalize(torch.full((1, 2, 1, 1), pixel, dtype=torch.uint8), (mean, 0.0), (std, 1.0))
    assert x.dtype == torch.float32
    assert x[0, 0].item() == pytest.approx((pixel / 255 - mean) / std, rel=1e-5, abs=1e-5)
    assert x[0, 1].item() == pytest.approx(pixel / 255)


@given(st.integers(1, 40), st.integers(1, 50))
def test_batches_hold_every_sample_once_and_in_order(count, batch_size):
    split = split_of(count)
    parts = list(batches(split, batch_size, Digits()))
    assert [len(y) for _, y in parts[:-1]] == [batch_size] * (len(parts) - 1)
    assert torch.cat([y for _, y in parts]).tolist() == list(range(count))
    x = torch.cat([x for x, _ in parts])
    assert torch.equal(x, normalize(torch.from_numpy(split.images), Digits().mean, Digits().std))


@dataclass(frozen=True)
class Constants:
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int16, np.uint8, ">f4"])
def test_what_are_no_images_keeps_its_values(dtype):
    values = np.arange(24).reshape(4, 3, 2).astype(dtype)
    (x, y), (rest, _) = batches(Split(images=values, labels=np.arange(4)), 3, Constants())
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert torch.cat([x, rest]).tolist() == values.tolist()


def test_tokens_stay_exact():
    tokens = np.array([[0, 2**24 - 1, 49_407]])
    ((x, _),) = batches(Split(images=tokens, labels=np.zeros(1, np.int64)), 1, Constants())
    assert x.to(torch.int64).tolist() == tokens.tolist()


@pytest.mark.parametrize("shape", [(2,), (2, 5), (2, 3, 4)])
def test_floats_are_normalized_per_channel(shape):
    values = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    split = Split(images=values, labels=np.zeros(3, np.int64))
    ((x, _),) = batches(split, 3, Constants((1.0, -2.0), (0.5, 4.0)))
    for channel, (mean, std) in enumerate([(1.0, 0.5), (-2.0, 4.0)]):
        assert (x[:, channel].numpy() == (values[:, channel] - np.float32(mean)) / np.float32(std)).all()
    ((x, _),) = batches(split, 3, Constants((1.0,), (2.0,)))  # one for all
    assert (x.numpy() == (values - np.float32(1)) / np.float32(2)).all()


def test_images_without_constants_lie_in_0_to_1():
    pixels = np.array([0, 51, 255], np.uint8).reshape(1, 3, 1, 1)
    ((x, _),) = batches(Split(images=pixels, labels=np.zeros(1, np.int64)), 1, Constants())
    assert x.flatten().tolist() == pytest.approx([0.0, 0.2, 1.0])


@pytest.mark.parametrize("labels", [np.ones((2, 3), np.float32), np.ones((2, 4, 4), np.int64)])
def test_targets_are_yielded_as_they_are(labels):
    ((_, y),) = batches(Split(images=np.zeros((2, 1, 4, 4), np.uint8), labels=labels), 2, Constants())
    assert (y.numpy() == labels).all() and y.numpy().dtype == labels.dtype


def test_batches_follow_the_order_given():
    order = np.array([4, 0, 4], dtype=np.int64)
    (x, y), (rest, last) = batches(split_of(5), 2, Digits(), order=order)
    assert y.tolist() == [4, 0] and last.tolist() == [4]
    assert torch.equal(x[0], rest[0])


def test_batches_do_not_alias_the_images():
    """A memory-mapped split is read-only; what is yielded may be written to."""
    split = split_of(2)
    split.images.setflags(write=False)
    x, y = next(batches(split, 2, Digits()))
    x.zero_()
    y.zero_()
    assert split.images[0, 0, 0, 1] == 1 and split.labels[1] == 1


def test_batch_size_must_be_positive():
    with pytest.raises(ValueError, match="batch_size=0: must be at least 1"):
        next(batches(split_of(2), 0, Digits()))


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_a_calibration_subset_is_distinct_and_fixed_by_its_seed(count, samples, seed):
    ids = calibration_subset(split_of(count), samples, seed)
    assert len(ids) == min(samples, count)
    assert ids.dtype == np.int64
    assert len(set(ids.tolist())) == len(ids) and ids.min() >= 0 and ids.max() < count
    assert (ids == calibration_subset(split_of(count), samples, seed)).all()


def test_each_calibration_batch_is_drawn_across_classes():
    """10 classes in order, 100 images each: no batch of 50 has more than 15 of one class."""
    ids = calibration_subset(split_of(1000), 500, seed=0)
    for batch in ids.reshape(10, 50):
        assert np.bincount(batch // 100, minlength=10).max() <= 15


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 99))
def test_a_subset_to_measure_on_is_ascending(count, samples, seed):
    ids = subset(range(count), samples, seed, "test")
    assert len(ids) == min(samples, count)
    assert (np.diff(ids) > 0).all()


def test_calibration_subsets_of_two_seeds_differ():
    first, second = (calibration_subset(split_of(1000), 10, seed).tolist() for seed in (0, 1))
    assert first != second


def test_a_calibration_subset_is_not_empty():
    with pytest.raises(ValueError, match="samples=0: must be at least 1"):
        calibration_subset(split_of(3), 0, seed=0)
