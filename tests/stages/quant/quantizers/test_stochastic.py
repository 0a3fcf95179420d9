"""Rounding by chance: to a neighbour, right on average, the same for the same seed and name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.noise import uniform_noise
from stages.quant.qparams import dequantize, quantize
from stages.quant.quantizers.base import ChoosesLevels
from stages.quant.quantizers.codebook import Codebook
from stages.quant.quantizers.stochastic import Stochastic
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.weights import weight_levels

STOCHASTIC = st.builds(
    Stochastic,
    bits=st.integers(2, 8),
    signed=st.just(True),
    scheme=st.sampled_from(["symmetric", "affine"]),
    seed=st.integers(0, 2**40),
)
WEIGHTS = st.integers(0, 100).map(
    lambda seed: torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
)


def grid(quantizer, weight):
    return quantizer.qparams(weight.amin(dim=(1, 2, 3)), weight.amax(dim=(1, 2, 3)), ch_axis=0)


@given(STOCHASTIC, WEIGHTS)
def test_a_value_goes_to_one_of_its_two_neighbours(quantizer, weight):
    """|x − dequantize(q)| < Δ within the range, up to float32 rounding of x/Δ + ε."""
    qparams = grid(quantizer, weight)
    q = quantizer.levels(weight, qparams, "conv")
    scale, _ = qparams.broadcast(4)
    assert q.dtype == torch.int8 and qparams.quant_min <= int(q.min()) <= int(q.max()) <= qparams.quant_max
    assert bool(((dequantize(q, qparams) - weight).abs() <= scale * (1 + 1e-4)).all())


@given(STOCHASTIC, WEIGHTS)
def test_zero_stays(quantizer, weight):
    """|ε| ≤ ½ leaves zero at its level, whatever the draw."""
    qparams = grid(quantizer, weight)
    zeros = quantizer.levels(torch.zeros_like(weight), qparams, "conv")
    assert torch.equal(zeros, qparams.broadcast(4)[1].expand_as(zeros).to(torch.int8))


def test_rounding_is_right_on_average():
    """100,000 copies of x = 0.3 Δ: the mean level is 0.3 within 5 standard deviations of it."""
    x = torch.full((100_000,), 0.3)
    qparams = Symmetric(bits=4, signed=True).qparams(torch.tensor(-7.0), torch.tensor(7.0))
    q = Stochastic(bits=4, signed=True).levels(x, qparams, "x").double()
    assert set(q.unique().tolist()) == {0.0, 1.0}
    assert abs(float(q.mean()) - 0.3) < 5 * (0.3 * 0.7 / 100_000) ** 0.5
    assert int(quantize(x, qparams).max()) == 0  # to nearest, all of them would vanish


@given(STOCHASTIC, WEIGHTS)
def test_the_draw_follows_from_seed_and_name(quantizer, weight):
    qparams = grid(quantizer, weight)
    q = quantizer.levels(weight, qparams, "conv1")
    torch.rand(7)  # whatever else draws
    assert torch.equal(quantizer.levels(weight, qparams, "conv1"), q)
    assert not torch.equal(quantizer.levels(weight, qparams, "conv2"), q)


def test_noise_is_uniform_and_independent_between_names_and_draws():
    like = torch.empty(20_000)
    draws = [uniform_noise(like, 0, "a"), uniform_noise(like, 0, "b"), uniform_noise(like, 0, "a", 1)]
    assert all(float(e.min()) >= -0.5 and float(e.max()) <= 0.5 for e in draws)
    correlation = torch.corrcoef(torch.stack(draws))
    assert bool((correlation - torch.eye(3)).abs().max() < 5 / 20_000**0.5)
    histogram = torch.histc(draws[0], 10, -0.5, 0.5)
    assert bool(((histogram - 2000).abs() < 5 * (2000 * 0.9) ** 0.5).all())


def test_who_chooses_levels():
    weight = torch.ones(2, 2)
    qparams = Symmetric(signed=True).qparams(torch.tensor(-1.0), torch.tensor(1.0))
    assert weight_levels(Symmetric(signed=True), weight, qparams, "fc") is None
    for quantizer in (Stochastic(signed=True), Codebook()):
        assert isinstance(quantizer, ChoosesLevels)
        assert torch.equal(weight_levels(quantizer, weight, qparams, "fc"), 127 * torch.ones(2, 2).char())


def test_the_affine_scheme_needs_a_sign():
    with pytest.raises(ValueError, match=r"signed=None: must be true or false where scheme=affine"):
        Stochastic(scheme="affine")
