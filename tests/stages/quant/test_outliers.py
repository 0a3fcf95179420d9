"""What is abnormal: few samples 16 times as large as the others, or few values 256 times."""

import pytest
import torch

from stages.quant.outliers import abnormal, usual_extremes, usual_limit, usual_rows
from stages.quant.statistics import Statistics


def observed(x: torch.Tensor, histogram: bool = True) -> Statistics:
    statistics = Statistics(histogram=histogram)
    statistics.update(x)
    return statistics


def rows(*largest: float) -> torch.Tensor:
    """Rows of 0 and their largest value."""
    return torch.stack([torch.zeros(len(largest)), torch.tensor(largest)], dim=1)


@pytest.mark.parametrize(
    ("largest", "found"),
    [
        ((1.0,) * 7 + (16.0,), ()),
        ((1.0,) * 7 + (16.1,), (7,)),
        ((1.0,) * 7 + (-16.1,), (7,)),
        ((17.0,) + (1.0,) * 6, ()),  # 7 rows are too few to tell
        ((17.0, 17.0) + (1.0,) * 30, ()),  # two of 32: as large as that, some are
        ((17.0, 17.0) + (1.0,) * 62, (0, 1)),  # two of 64
        ((1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), ()),  # nothing is known of what is usual
        ((1.0, 3.0, 40.0, 2.0, 1.0, 1.0, 1.0, 1.0), ()),  # 13 times the second largest
    ],
)
def test_abnormal_rows(largest, found):
    statistics = observed(rows(*largest))
    assert tuple(torch.nonzero(~usual_rows(statistics)).flatten().tolist()) == found
    result = abnormal(statistics)
    assert (result.rows if result else ()) == found
    if result:
        assert (result.limit, result.of) == (1.0, len(largest))
        assert result.largest == pytest.approx(max(map(abs, largest)))
        assert float(usual_limit(statistics)) == 1.0


def test_rows_tell_where_values_are_not_counted():
    statistics = observed(rows(*[1.0] * 8, 1e6), histogram=False)
    assert [float(end) for end in usual_extremes(statistics)] == [0.0, 1.0]


@pytest.mark.parametrize(("count", "limit"), [(4095, 300.0), (4096, 1.0)])
def test_abnormal_values_are_one_in_4096_beside_zero(count, limit):
    x = torch.cat([torch.full((count - 1,), 1.0), torch.tensor([300.0]), torch.zeros(1000)])
    statistics = observed(x.reshape(1, -1))
    assert float(usual_limit(statistics)) == pytest.approx(limit, rel=1e-3)
    assert usual_rows(statistics).tolist() == [True]
    assert (abnormal(statistics) is None) == (limit == 300.0)


def test_heavy_tails_are_not_abnormal():
    x = torch.randn(1, 1_000_000, generator=torch.Generator().manual_seed(0))
    for power in (1, 3):
        statistics = observed(x**power)
        assert abnormal(statistics) is None
        assert usual_extremes(statistics) == (statistics.minimum, statistics.maximum)


def test_slots_have_limits_of_their_own():
    x = torch.ones(8, 2, 5)
    x[0, 0, 0] = 99.0
    assert usual_limit(observed(x)).tolist() == [1.0, 1.0]
    assert usual_rows(observed(x))[0].tolist() == [False, True]
