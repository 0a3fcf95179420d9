from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.benchmarking.agreement import correlation, first_output

Y = np.array([[1.0, -2.0], [3.0, 5.0]], np.float32)


def test_the_first_result_counts_whatever_holds_it():
    for result in (Y, torch.from_numpy(Y), [Y, Y * 2], (torch.from_numpy(Y),), {"logits": Y, "more": 1}):
        np.testing.assert_array_equal(first_output(result), [1.0, -2.0, 3.0, 5.0])
    for result in (None, 3.0, [], {}, np.array(["text"]), [None]):
        assert first_output(result) is None


def test_levels_agree_with_the_reals_that_they_stand_for():
    levels = np.rint(Y * 10 + 7)
    assert correlation(levels.astype(np.int32), Y) == pytest.approx(1.0)
    assert correlation(-Y, Y) == pytest.approx(-1.0)
    assert correlation(np.array([1.0, 1.0, -1.0, -1.0]), np.array([1.0, -1.0, 1.0, -1.0])) == 0.0


def test_nothing_is_compared_where_there_is_nothing():
    assert correlation(None, Y) is None
    assert correlation(Y, None) is None


def test_constant_outputs_agree_where_they_are_equal():
    assert correlation(np.ones(3), np.ones(3)) == 1.0
    assert correlation(np.zeros(3), np.ones(3)) == 0.0


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (Y[:1], "gives 2 numbers where the network gives 4"),
        (np.where(Y > 2, np.inf, Y), "gives 2 numbers that are not finite"),
    ],
)
def test_what_cannot_be_the_network_is_refused(result, message):
    with pytest.raises(ValueError, match=message):
        correlation(result, Y)
