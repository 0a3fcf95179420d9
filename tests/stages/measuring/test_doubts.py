from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.measuring.doubts import doubts

TWELVE = tuple(map(str, range(12)))


def one_hot(predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predicted]


def test_folders_that_were_sorted_as_text_are_found_out():
    """Folders 0 … 11 of a network that counts by value: 2 of 12 right, all with the classes renamed."""
    as_text = sorted(TWELVE)
    values = np.repeat(np.arange(12), 20)
    labels = np.array([as_text.index(str(value)) for value in values])
    (doubt,) = doubts(one_hot(values, 12), labels, as_text)
    assert doubt.startswith("float top-1 is 16.67%, and would be 100.00% with the classes in another order")
    assert f"'data.classes=[{','.join(TWELVE)}]'" in doubt


def test_an_order_is_named_only_where_every_class_was_seen():
    labels = np.repeat([0, 1, 2], 30)
    (doubt,) = doubts(one_hot((labels + 1) % 4, 4), labels, ("a", "b", "c", "d"))
    assert "data.classes=… with the class of each output" in doubt
    (doubt,) = doubts(one_hot((labels + 1) % 3, 3), labels, None)
    assert "0.00%, and would be 100.00%" in doubt and "data.classes=…" in doubt


@pytest.mark.parametrize("classes", [2, 10])
def test_one_class_for_all_is_chance(classes):
    labels = np.arange(300) % classes
    (doubt,) = doubts(one_hot(np.zeros(300, np.int64), classes), labels, None)
    assert doubt.startswith(f"float top-1 is {1 / classes:.2%}, no better than chance ({1 / classes:.2%})")


@given(st.integers(0, 99), st.sampled_from([2, 5, 10, 100]))
def test_a_network_that_is_mostly_right_raises_none(seed, classes):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, 400)
    predicted = np.where(generator.random(400) < 0.6, labels, generator.integers(0, classes, 400))
    assert doubts(one_hot(predicted, classes), labels, None) == ()


@given(st.integers(0, 99), st.sampled_from([3, 10, 30]))
def test_random_classes_are_never_taken_for_another_order(seed, classes):
    predicted, labels = np.random.default_rng(seed).integers(0, classes, (2, 10 * classes))
    assert not [doubt for doubt in doubts(one_hot(predicted, classes), labels, None) if "order:" in doubt]


def test_a_few_samples_say_nothing():
    assert doubts(one_hot(np.zeros(29, np.int64), 2), np.ones(29, np.int64), None) == ()
