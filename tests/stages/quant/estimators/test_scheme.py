"""New ranges for levels that are already chosen."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.estimators.scheme import start_of
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.stochastic import Stochastic
from stages.quant.quantizers.symmetric import Symmetric

quantizers = st.one_of(
    st.builds(Affine, bits=st.integers(2, 8), signed=st.booleans()),
    st.builds(Symmetric, bits=st.integers(2, 8), signed=st.sampled_from([True, None])),
)
ends = st.floats(-100.0, 100.0).map(torch.tensor)


@given(quantizer=quantizers, first=st.tuples(ends, ends), second=st.tuples(ends, ends))
def test_any_range_gives_the_same_levels(quantizer, first, second):
    """Also where signs of the range change, as an untrained network's do."""
    first, second = (tuple(sorted(pair)) for pair in (first, second))
    qparams = quantizer.qparams(*first)
    found = start_of(qparams, quantizer).scheme(*second)
    assert (found.quant_min, found.quant_max) == (qparams.quant_min, qparams.quant_max)


@pytest.mark.parametrize("quantizer", [Affine(bits=5), Symmetric(bits=4), Stochastic(bits=3, signed=True)])
def test_scales_of_an_even_grid_are_free(quantizer):
    start = start_of(quantizer.qparams(torch.tensor(-1.0), torch.tensor(0.7)), quantizer)
    assert start.snap is None


@given(scale=st.floats(1e-4, 1e4))
def test_scales_that_are_powers_of_two_stay_so(scale):
    """The learned scale snaps to 2^k, and its gradient passes through."""
    quantizer = PowerOfTwo(bits=4, signed=True)
    start = start_of(quantizer.qparams(torch.tensor(-1.0), torch.tensor(1.0)), quantizer)
    learned = torch.tensor(scale, requires_grad=True)
    used = start.usable(learned)
    used.backward()
    assert math.frexp(float(used))[0] == 0.5
    assert 1.0 - 1e-6 <= float(used) / scale < 2.0
    assert learned.grad == 1.0


def test_another_quantizer_is_refused():
    qparams = Symmetric(bits=4, signed=True).qparams(torch.tensor(-1.0), torch.tensor(1.0))
    with pytest.raises(
        ValueError, match=r"levels -7\.\.7 became -8\.\.7 .* Remedy: train with the quantizer"
    ):
        start_of(qparams, Affine(bits=4, signed=True))
