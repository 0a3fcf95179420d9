"""Powers of two as scales, and what they make of requantization."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.integer.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.base import next_power_of_two
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.weights import weight_qparams

POSITIVE = st.floats(2.0**-60, 2.0**60, width=32)


@given(POSITIVE)
def test_the_next_power_of_two_is_the_least_above(x):
    found = float(next_power_of_two(torch.tensor(x)))
    assert math.frexp(found)[0] == 0.5
    assert found / 2 < x <= found


@given(st.integers(2, 8), POSITIVE)
def test_the_grid_covers_the_range_in_steps_below_twice_the_least(bits, largest):
    """Symmetric's scale s: s ≤ 2^k < 2s, with its levels and zero point."""
    ends = torch.tensor(-largest), torch.tensor(largest)
    ours, least = PowerOfTwo(bits=bits).qparams(*ends), Symmetric(bits=bits).qparams(*ends)
    assert least.scale <= ours.scale < 2 * least.scale
    assert (ours.quant_min, ours.quant_max) == (least.quant_min, least.quant_max)
    assert int(ours.zero_point) == 0


@given(st.tuples(*[st.integers(-20, 20)] * 3).filter(lambda k: -31 <= k[0] + k[1] - k[2] <= 20))
def test_requantization_is_a_shift(exponents):
    """``s_x s_w / s_y = 2^-n`` exactly: the multiplier is one half, and x · 2^n comes back as x."""
    kx, kw, ky = exponents
    n = ky - kx - kw
    multiplier, shift = quantize_multiplier(2.0**kx * 2.0**kw / 2.0**ky)
    assert int(multiplier) == 2**30 and int(shift) == 1 - n
    x = np.arange(-100, 101)
    if 0 <= n <= 24:
        assert (multiply_by_quantized_multiplier(x << n, multiplier, shift) == x).all()


def test_scales_that_a_bias_raises_are_powers_of_two_too():
    """A channel of zeros, a channel of near zeros with a bias, and an ordinary one."""
    weight = torch.tensor([[0.0, 0.0], [1e-12, -1e-12], [0.3, -0.7]])
    bias, quantizer = torch.tensor([0.3, 50.0, 0.1]), PowerOfTwo(signed=True)
    input_scale = torch.tensor(2.0**-5)
    found = weight_qparams(weight, bias, input_scale, quantizer, MinMax(), PerChannel())
    assert torch.equal(next_power_of_two(found.scale), found.scale)
