"""Codebooks: few levels, zero among them, each value at its nearest, better than an even grid."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.quant.kmeans import kmeans
from stages.quant.qparams import dequantize, fake_quantize
from stages.quant.quantizers.codebook import Codebook
from stages.quant.quantizers.symmetric import Symmetric

BITS = st.integers(2, 8)
WEIGHTS = arrays("float32", (4, 30), elements=st.floats(-3, 3, width=32)).map(torch.from_numpy)


def grid(quantizer, weight, per_channel):
    if per_channel:
        return quantizer.qparams(weight.amin(dim=1), weight.amax(dim=1), ch_axis=0)
    return quantizer.qparams(weight.min(), weight.max())


@given(BITS, WEIGHTS, st.booleans())
def test_levels_are_few_and_nearest(bits, weight, per_channel):
    """At most 2^b levels; no level in use is nearer to a value than its own; zero stays zero."""
    weight[0, 0] = 0.0
    quantizer = Codebook(bits=bits)
    qparams = grid(quantizer, weight, per_channel)
    q = quantizer.levels(weight, qparams, "fc")
    used = q.unique()
    assert q.dtype == torch.int8 and q.shape == weight.shape and len(used) <= 2**bits
    assert int(used.min()) >= -127 and int(q[0, 0]) == 0
    steps = weight / qparams.broadcast(2)[0]
    distance = (steps.unsqueeze(-1) - used).abs()
    assert bool(((steps - q).abs() <= distance.amin(dim=-1) + 1e-4).all())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("per_channel", [False, True])
def test_normal_weights_lose_less_than_on_an_even_grid(bits, per_channel):
    weight = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
    codebook, even = Codebook(bits=bits), Symmetric(bits=bits, signed=True)
    qparams = grid(codebook, weight, per_channel)
    q = codebook.levels(weight, qparams, "fc")
    error = (dequantize(q, qparams) - weight).square().mean()
    assert error < (fake_quantize(weight, grid(even, weight, per_channel)) - weight).square().mean()


@given(arrays("float64", st.integers(1, 60), elements=st.floats(-1e3, 1e3)), st.integers(1, 16))
def test_steps_of_kmeans_never_cost(values, k):
    """From an even start, Lloyd's steps lower the cost or leave it: centroids ascend and contain 0."""
    x = torch.from_numpy(values)
    centroids = kmeans(x, k)
    start = torch.linspace(min(float(x.min()), 0.0), max(float(x.max()), 0.0), k, dtype=torch.float64)
    start[start.abs().argmin()] = 0.0

    def cost(c):
        return float((x.unsqueeze(1) - c).square().amin(dim=1).sum())

    assert cost(centroids) <= cost(start) * (1 + 1e-9) + 1e-6
    assert bool((centroids.diff() >= 0).all()) and bool((centroids == 0).any())


def test_clusters_apart_are_found():
    x = torch.tensor([-5.1, -4.9, 0.0, 0.1, -0.1, 2.9, 3.1, 8.0])
    assert torch.allclose(kmeans(x, 4), torch.tensor([-5.0, 0.0, 3.0, 8.0], dtype=torch.float64), atol=1e-6)
