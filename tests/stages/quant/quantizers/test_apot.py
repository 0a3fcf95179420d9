"""Additive powers of two: the paper's levels, each value at its nearest, on a grid that kernels hold."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.quant.qparams import dequantize, fake_quantize, quantize
from stages.quant.quantizers.apot import AdditivePowersOfTwo
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric

WEIGHTS = arrays("float32", (4, 30), elements=st.floats(-3, 3, width=32)).map(torch.from_numpy)


def grid(quantizer, weight):
    return quantizer.qparams(weight.amin(dim=1), weight.amax(dim=1), ch_axis=0)


@pytest.mark.parametrize("bits", [3, 5])
def test_magnitudes_are_the_papers_formula(bits):
    """Equation 6 for an even number of magnitude bits: terms of two bits, ``2^-(i + j·n)``."""
    n = (bits - 1) // 2
    terms = [[0.0, *(2.0 ** -(i + j * n) for j in range(3))] for i in range(n)]
    sums = sorted({sum(chosen) for chosen in product(*terms)})
    found = AdditivePowersOfTwo(bits=bits).magnitudes
    assert len(found) == 2 ** (bits - 1)
    assert [m / found[-1] for m in found] == pytest.approx([s / sums[-1] for s in sums], abs=1e-12)


@pytest.mark.parametrize(("bits", "magnitudes"), [(2, (0, 1)), (4, (0, 1, 2, 3, 4, 6, 8, 10))])
def test_odd_numbers_of_magnitude_bits(bits, magnitudes):
    assert AdditivePowersOfTwo(bits=bits).magnitudes == magnitudes


@settings(deadline=None)
@given(st.integers(2, 8), WEIGHTS)
def test_levels_are_few_and_nearest(bits, weight):
    weight[0, 0] = 0.0
    quantizer = AdditivePowersOfTwo(bits=bits)
    qparams = grid(quantizer, weight)
    q = quantizer.levels(weight, qparams, "fc")
    magnitudes = torch.tensor(quantizer.magnitudes)
    assert q.dtype == torch.int8 and q.shape == weight.shape and int(q[0, 0]) == 0
    assert set(q.abs().unique().tolist()) <= set(quantizer.magnitudes)
    assert (qparams.quant_min, qparams.quant_max) == (-quantizer.magnitudes[-1], quantizer.magnitudes[-1])
    steps = weight / qparams.scale[:, None]
    every = torch.cat([-magnitudes.flip(0), magnitudes])
    distance = (steps.unsqueeze(-1) - every).abs().amin(dim=-1)
    assert bool(((steps - q).abs() <= distance + 1e-4).all())


@settings(deadline=None)
@given(st.sampled_from([2, 6, 7, 8]), WEIGHTS)
def test_at_2_bits_and_from_6_on_the_levels_are_symmetrics(bits, weight):
    own, even = AdditivePowersOfTwo(bits=bits), Symmetric(bits=bits, signed=True)
    assert (grid(own, weight).quant_max, grid(own, weight).quant_min) == (
        grid(even, weight).quant_max,
        grid(even, weight).quant_min,
    )
    torch.testing.assert_close(grid(own, weight).scale, grid(even, weight).scale)
    found = own.levels(weight, grid(even, weight), "fc").int() - quantize(weight, grid(even, weight)).int()
    steps = weight / grid(even, weight).scale[:, None]
    apart = found != 0  # a tie may go to either neighbour
    assert bool(((steps[apart] - steps[apart].floor() - 0.5).abs() < 1e-4).all())


@pytest.mark.parametrize("bits", [3, 4])
def test_normal_weights_lose_less_than_on_an_even_grid(bits):
    weight = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    own, even = AdditivePowersOfTwo(bits=bits), Symmetric(bits=bits, signed=True)
    q = own.levels(weight, grid(own, weight), "fc")
    error = (dequantize(q, grid(own, weight)) - weight).square().mean()
    assert error < (fake_quantize(weight, grid(even, weight)) - weight).square().mean()


def test_values_that_kernels_compute_are_refused():
    with pytest.raises(ValueError, match=r"activation: AdditivePowersOfTwo leaves out levels.*Remedy: symm"):
        WeightsAndActivations(weight=AdditivePowersOfTwo(), activation=AdditivePowersOfTwo())
