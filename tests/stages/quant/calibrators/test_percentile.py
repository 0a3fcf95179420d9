"""Percentiles from the histogram, against numpy's from the observations themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.calibrators.percentile import Percentile
from stages.quant.quantizers.affine import Affine
from stages.quant.statistics import Statistics

VALUES = st.lists(st.floats(-1e6, 1e6).map(np.float32), min_size=1, max_size=200)


@given(VALUES, st.floats(50.1, 100))
def test_within_one_bin_of_numpy(values, percentile):
    """|histogram − numpy| ≤ bin width, where numpy takes the least value whose share reaches p.

    The bin around zero is two wide. A share that hits a step of the distribution within float64 rounding may
    fall on either side of it, so the value may lie between numpy's just below and just above p.
    """
    statistics = Statistics()
    statistics.update(torch.tensor(np.array([values])))
    low, high = Percentile(percentile=percentile).range(statistics, Affine().qparams)
    width = 2 * float(statistics.edges[-1]) / 4096
    for found, p in ((low, 100 - percentile), (high, percentile)):
        below, above = np.percentile(
            np.array(values, np.float64), np.clip([p - 1e-9, p + 1e-9], 0, 100), method="inverted_cdf"
        )
        assert below - width <= float(found) <= above + width


def test_of_many_values():
    """Percentiles of a million normal values are as close as one bin to numpy's linear interpolation."""
    x = torch.randn(1, 1_000_000, generator=torch.Generator().manual_seed(0))
    statistics = Statistics()
    statistics.update(x)
    low, high = Percentile(percentile=99.9).range(statistics, Affine().qparams)
    width = float(statistics.edges[-1]) / 4096
    assert [float(low), float(high)] == pytest.approx(
        np.percentile(x.numpy(), [0.1, 99.9]).tolist(), abs=width
    )


@pytest.mark.parametrize("percentile", [50.0, 100.1, 0.999])
def test_percentile_is_checked(percentile):
    with pytest.raises(ValueError, match=rf"percentile={percentile}: must be above 50.*99\.9, not 0\.999"):
        Percentile(percentile=percentile)
