"""The range of least squared error, judged by quantizing the observations themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.quant.calibrators.mse import Mse
from stages.quant.qparams import fake_quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics

QUANTIZERS = st.one_of(
    st.builds(Affine, bits=st.integers(2, 8), signed=st.booleans()),
    st.builds(Symmetric, bits=st.integers(2, 8)),
)


def observed(x: torch.Tensor) -> Statistics:
    statistics = Statistics()
    statistics.update(x.reshape(1, -1))
    return statistics


def error(x: torch.Tensor, quantizer, low, high) -> float:
    return float((fake_quantize(x, quantizer.qparams(low, high)) - x).double().square().mean())


@settings(max_examples=30, deadline=None)
@given(QUANTIZERS, st.integers(0, 999), st.sampled_from([1, 3]), st.floats(-2, 2))
def test_no_worse_than_minmax(quantizer, seed, power, shift):
    """On the observations, the error is at most min/max's, but for what bins hide: half a bin's width."""
    x = torch.randn(5000, generator=torch.Generator().manual_seed(seed)) ** power + shift
    statistics = observed(x)
    low, high = Mse().range(statistics, quantizer.qparams)
    half_bin = float(statistics.edges[-1]) / 4096
    found = error(x, quantizer, low, high) ** 0.5
    assert found <= error(x, quantizer, statistics.minimum, statistics.maximum) ** 0.5 + half_bin


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("power", [1, 3])
def test_as_good_as_trying_every_threshold(bits, power):
    """For a symmetric grid, within 2% of the best of a thousand thresholds."""
    x = torch.randn(5000, generator=torch.Generator().manual_seed(bits)) ** power
    quantizer = Symmetric(bits=bits)
    low, high = Mse().range(observed(x), quantizer.qparams)
    largest = x.abs().max()
    every = [error(x, quantizer, -largest * k / 1000, largest * k / 1000) for k in range(1, 1001)]
    assert error(x, quantizer, low, high) <= 1.02 * min(every)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("outlier", [1.0, 8.0, -30.0])
def test_as_good_as_trying_every_pair_of_ends(bits, outlier):
    """For an affine grid and data with an outlier on one side, within 5% of the best of 40 × 40 ranges."""
    x = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x[0] = outlier
    quantizer = Affine(bits=bits)
    low, high = Mse().range(observed(x), quantizer.qparams)
    lows, highs = (x.min() * torch.logspace(-2, 0, 40), x.max() * torch.logspace(-2, 0, 40))
    every = [error(x, quantizer, a, b) for a in lows for b in highs]
    assert error(x, quantizer, low, high) <= 1.05 * min(every)


def test_four_bits_clip_more_than_eight():
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    highs = [float(Mse().range(observed(x), Symmetric(bits=bits).qparams)[1]) for bits in (4, 8)]
    assert highs[0] < highs[1] <= float(x.max())
