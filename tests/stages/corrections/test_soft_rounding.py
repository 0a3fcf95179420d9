"""The rounding variable: begins at the weight, ends at a neighbouring level, keeps zeros."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corrections.soft_rounding import SoftRounding, regularizer
from stages.quant.qparams import QParams
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric


def problem(seed, bits, affine):
    weight = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(seed))
    weight[weight.abs() < 0.3] = 0.0
    scheme = Affine(bits=bits, signed=True) if affine else Symmetric(bits=bits, signed=True)
    flat = weight.flatten(1)
    return weight, scheme.qparams(flat.amin(dim=1), flat.amax(dim=1), ch_axis=0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 8), st.booleans())
def test_it_begins_at_the_weight_and_keeps_zeros_whatever_is_learned(seed, bits, affine):
    weight, qparams = problem(seed, bits, affine)
    soft = SoftRounding(weight, qparams)
    scale = qparams.scale.reshape(-1, 1, 1, 1)
    slack = 1e-5 * scale + (0.5 * scale if affine else 0.0)  # an affine grid's ends are half a step off
    assert ((soft.weight(soft.h()) - weight).abs() <= slack).all()
    with torch.no_grad():
        soft.v.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)) * 10.0)
    levels = soft.levels()
    assert levels.dtype == torch.int8
    assert torch.equal(
        levels[weight == 0.0].int(),
        qparams.zero_point.reshape(-1, 1, 1, 1).expand_as(weight)[weight == 0.0].int(),
    )
    assert not soft.weight(soft.h())[weight == 0.0].any()
    assert int(levels.min()) >= qparams.quant_min
    assert int(levels.max()) <= qparams.quant_max
    real = (levels.float() - qparams.zero_point.reshape(-1, 1, 1, 1)) * scale
    assert ((real - weight).abs() <= scale * (1.5 if affine else 1.0) + 1e-5).all()


def test_groups_have_their_own_scales():
    weight = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    qparams = QParams(
        scale=torch.tensor([[0.1, 0.3], [0.2, 0.5]]),
        zero_point=torch.zeros(2, 2, dtype=torch.int32),
        quant_min=-127,
        quant_max=127,
        ch_axis=0,
        group_size=2,
    )
    soft = SoftRounding(weight, qparams)
    torch.testing.assert_close(soft.weight(soft.h()), weight)


@pytest.mark.parametrize(("h", "expected"), [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0)])
def test_the_regularizer_is_zero_where_all_is_decided(h, expected):
    assert float(regularizer(torch.full((3, 2), h), 4.0)) == expected
