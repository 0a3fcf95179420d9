"""Weights on grids: averages are exact, and others keep their sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.graph.lower import lower
from stages.graph.operators.resample import on_grid
from stages.graph.simulate import Simulation
from tests.stages.graph.test_moves_and_masks import ALL, model_of


@pytest.mark.parametrize("name", ["ceil_mode", "count_include_pad", "divisor_override", "adaptive averages"])
def test_averages_over_windows_of_several_sizes_are_exact(name):
    """Weights are whole numbers: each level is its window's average, rounded, ties of float32 aside."""
    (model, _), x = model_of(name)
    program = lower(model, "float")
    trace = Simulation(program).trace(x)
    node = model.graph.nodes[-1]
    read, made = (model.activations[n] for n in ("conv", node.name))
    reals = (torch.from_numpy(trace["conv"]).double() - read.zero_point) * read.scale.double()
    module = ALL[name][0]
    exact = module(reals) / made.scale.double()
    rounded = (exact.round() + made.zero_point).clamp(made.quant_min, made.quant_max)
    tie = (exact - exact.floor() - 0.5).abs() < 1e-3
    assert (torch.from_numpy(trace[node.name])[~tie] == rounded[~tie]).all()
    assert tie.float().mean() < 0.1


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000), size=st.integers(2, 40), out=st.integers(1, 60), steps=st.integers(1, 2048)
)
def test_weights_on_a_grid_keep_their_sum_and_are_within_a_step(seed, size, out, steps):
    weights = np.random.default_rng(seed).uniform(-0.3, 1.0, (out, size))
    weights /= weights.sum(axis=1, keepdims=True)
    levels = on_grid(weights, steps)
    assert (levels.sum(axis=1) == steps).all()
    assert (np.abs(levels - weights * steps) <= 1.0 + 1e-9).all()
