"""New ranges for levels that are already chosen."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.estimators.scheme import scheme_like
from stages.quant.quantizers.affine import Affine
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
    found = scheme_like(qparams, quantizer)(*second)
    assert (found.quant_min, found.quant_max) == (qparams.quant_min, qparams.quant_max)


def test_a_layer_with_bits_of_its_own_keeps_them():
    qparams = Symmetric(bits=8, signed=True).qparams(torch.tensor(-1.0), torch.tensor(1.0))
    found = scheme_like(qparams, Symmetric(bits=4, signed=True))(torch.tensor(-2.0), torch.tensor(2.0))
    assert found.quant_max == 127


def test_another_quantizer_is_refused():
    qparams = Symmetric(bits=4, signed=True).qparams(torch.tensor(-1.0), torch.tensor(1.0))
    scheme = scheme_like(qparams, Affine(bits=4))
    with pytest.raises(
        ValueError, match=r"levels -7\.\.7 became -8\.\.7 .* Remedy: train with the quantizer"
    ):
        scheme(torch.tensor(-1.0), torch.tensor(1.0))
