"""AdaRound: never worse than nearest rounding, and never more than a level away from it."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corrections.adaround import Rounding
from stages.corrections.patches import Patches
from stages.quant.qparams import dequantize, quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric

QUICK = Rounding(iterations=30, batch_size=32)


def problem(seed, groups, outputs, terms, *, bits=3, affine=False, residual=False):
    """Weight, grid, patches and bias of a random layer with correlated inputs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    weight, bias = normal(groups * outputs, terms), 0.1 * normal(groups * outputs)
    scheme = Affine(bits=bits, signed=True) if affine else Symmetric(bits=bits, signed=True)
    qparams = scheme.qparams(weight.amin(dim=1), weight.amax(dim=1), ch_axis=0)
    x = normal(groups, 100, terms) + 2.0 * normal(groups, 100, 1)
    added = normal(groups, 100, outputs) if residual else None
    y = torch.bmm(x, weight.reshape(groups, outputs, terms).transpose(1, 2)) + bias.reshape(groups, 1, -1)
    target = torch.relu(y if added is None else y + added)
    noisy = x + 0.05 * normal(groups, 100, terms)
    return weight, bias, qparams, Patches(x=noisy, residual=added, target=target)


def errors(levels, bias, qparams, patches):
    """The squared error of each channel, computed apart."""
    groups, _, outputs = patches.target.shape
    weight = dequantize(levels, qparams).reshape(groups, outputs, -1)
    y = torch.einsum("gmk,gok->gmo", patches.x, weight) + bias.reshape(groups, 1, -1)
    y = torch.relu(y if patches.residual is None else y + patches.residual)
    return (y - patches.target).double().square().sum(dim=1).flatten()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(2, 8),
    st.booleans(),
    st.booleans(),
)
def test_no_channel_gets_worse_and_no_weight_moves_by_more_than_a_level(
    seed, groups, outputs, terms, bits, affine, residual
):
    weight, bias, qparams, patches = problem(
        seed, groups, outputs, terms, bits=bits, affine=affine, residual=residual
    )
    rounded = QUICK.round(weight, bias, qparams, patches, torch.relu)
    nearest = quantize(weight, qparams)
    found = errors(rounded.levels, bias, qparams, patches)
    before = errors(nearest, bias, qparams, patches)
    assert (found <= before * (1 + 1e-4) + 1e-6).all()
    torch.testing.assert_close(rounded.error, found, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rounded.nearest_error, before, rtol=1e-3, atol=1e-3)
    assert int((rounded.levels.int() - nearest.int()).abs().max()) <= 1
    assert int(rounded.levels.min()) >= qparams.quant_min
    assert int(rounded.levels.max()) <= qparams.quant_max
    assert rounded.levels.dtype == nearest.dtype


def test_the_error_falls_far_below_nearest_roundings():
    """Inputs share a component, which nearest rounding takes no account of."""
    weight, bias, qparams, patches = problem(0, 1, 8, 40)
    rounded = replace(QUICK, iterations=400).round(weight, bias, qparams, patches, torch.relu)
    assert float(rounded.error.sum()) < 0.5 * float(rounded.nearest_error.sum())


def test_it_finds_the_optimum_of_a_small_layer():
    weight, bias, qparams, patches = problem(3, 1, 1, 6, bits=3)
    rounded = replace(QUICK, iterations=600).round(weight, bias, qparams, patches, torch.relu)
    floor = torch.floor(weight / qparams.scale[:, None])
    candidates = (
        (floor + torch.tensor(ups)).clamp(qparams.quant_min, qparams.quant_max).to(torch.int8)
        for ups in torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6).tolist()
    )
    best = min(float(errors(levels, bias, qparams, patches).sum()) for levels in candidates)
    assert float(rounded.error.sum()) == pytest.approx(best, rel=0.05)


def test_the_same_problem_gives_the_same_levels():
    weight, bias, qparams, patches = problem(1, 2, 3, 9)
    first, second = (QUICK.round(weight, bias, qparams, patches, torch.relu).levels for _ in range(2))
    assert torch.equal(first, second)


def test_beta_sets_in_after_the_warm_up_and_falls_to_2():
    rounding = Rounding(iterations=100, warm_up=0.2)
    betas = [rounding.beta(i) for i in range(100)]
    assert betas[:20] == [None] * 20
    assert betas[20] == 20.0
    assert all(a > b for a, b in pairwise(betas[20:]))
    assert 2.0 < betas[-1] < 2.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"iterations": 0}, "iterations=0: must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be positive"),
        ({"warm_up": 1.0}, r"warm_up=1.0: must be a share of the iterations, in \[0, 1\)"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Rounding(**wrong)
