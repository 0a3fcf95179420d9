"""Bins of one width: the counts are those that a count by value gives."""

from math import frexp

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.linear import LINEAR_HALF, linear
from stages.quant.statistics import Statistics

REAL = st.one_of(st.floats(-100, 100, width=32), st.floats(-(2**-9), 2**-9, width=32), st.just(0.0))


@given(st.lists(REAL, min_size=1, max_size=60), st.sampled_from([1.0, 0.5, 1e-2, 1e-5]))
def test_every_value_is_in_its_bin(values, share):
    """Bin trunc(x / w) counts x, unless x lies beyond the limit; 2048·w is the power of two above it."""
    statistics = Statistics()
    statistics.update(torch.tensor([values]))
    limit = torch.tensor(max(abs(x) for x in values) * share)
    bins = linear(statistics, limit)
    width = float(bins.width)
    expected = [0] * (2 * LINEAR_HALF - 1)
    smallest = 2.0 ** (int(statistics.exponent) - 31)
    for x in torch.tensor(values).tolist():
        start = 0.0 if abs(x) < smallest else abs(x) - abs(x) % 2.0 ** (frexp(x)[1] - 11)
        if start <= float(limit):
            expected[int(x / width) + LINEAR_HALF - 1] += 1
    assert bins.counts.tolist() == [expected]


def test_at_least_1024_bins_below_the_limit():
    statistics = Statistics()
    statistics.update(torch.linspace(-3, 1000, 999).reshape(1, -1))
    for limit in (1000.0, 513.0, 512.0, 3.0, 0.01):
        assert 1024 <= limit / float(linear(statistics, torch.tensor(limit)).width) < 2048


def test_slots_equal_a_loop():
    x = torch.randn(2, 3, 4, 50) * torch.logspace(-4, 4, 4)[:, None]
    together = Statistics()
    together.update(x)
    limit = torch.maximum(-together.minimum, together.maximum)
    bins = linear(together, limit)
    for slot, (i, j) in enumerate((i, j) for i in range(3) for j in range(4)):
        alone = Statistics()
        alone.update(x[:, i, j])
        one = linear(alone, limit[i, j])
        assert torch.equal(bins.counts[slot], one.counts[0])
        assert float(bins.width[slot]) == float(one.width[0])


def test_centres_lie_in_their_bins():
    statistics = Statistics()
    statistics.update(torch.tensor([[1.0, -3.0]]))
    bins = linear(statistics, torch.tensor(3.0))
    assert bins.centres[bins.counts > 0].tolist() == pytest.approx([-3.0, 1.0], abs=float(bins.width))
