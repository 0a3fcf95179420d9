"""Reconstruction of other kinds of networks: what is learned there is deployed to the bit too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from stages.corrections.lockstep import Lockstep
from stages.corrections.reconstruct import Reconstruction
from stages.graph.blocks import blocks
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.graph.simulate import simulation_of
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.reconstruct import starts_of
from tests.quantizing import check_parity, fused, quantized
from tests.stages.networks import Attention, Gated, TransformerBlock

QUICK = Reconstruction(iterations=60, batch_size=16, learning_rate=0.2, scale_learning_rate=0.01)


class Tokens(nn.Module):
    """Numbers of tokens, which have no scale to learn, to classes."""

    def __init__(self):
        super().__init__()
        self.embed, self.block, self.head = nn.Embedding(20, 16), TransformerBlock(16), nn.Linear(16, 3)

    def forward(self, tokens):
        return self.head(self.block(self.embed(tokens)).mean(1))


class Dense(nn.Module):
    """Every value is read by all later layers, so that parts of a block give several."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(4))
        self.head = nn.Linear(19, 5)

    def forward(self, x):
        values = [x]
        for layer in self.layers:
            values.append(torch.relu(layer(torch.cat(values, 1))))
        return self.head(torch.cat(values, 1).mean((2, 3)))


CASES = {
    "gated": (lambda: Gated().build((3, 8, 8), 5), (3, 8, 8), {}, 12),
    "attention": (lambda: Attention().build((3, 8, 8), 5), (3, 8, 8), {"residual_bits": 16}, 12),
    "tokens": (Tokens, (6,), {}, 12),
    "dense": (Dense, (3, 8, 8), {}, 12),
    "dense by layer": (Dense, (3, 8, 8), {}, 2),
    "a float layer": (lambda: Gated().build((3, 8, 8), 5), (3, 8, 8), {"layers": {"3.squeeze": "float"}}, 12),
    "a float function": (lambda: Attention().build((3, 8, 8), 5), (3, 8, 8), {"layers": {"2": "float"}}, 12),
}


@pytest.mark.parametrize("case", CASES)
def test_the_float_network_comes_closer_and_integers_are_simulated(case, tmp_path):
    build, shape, settings, largest = CASES[case]
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build().eval()
    tokens = len(shape) == 1
    dtype = torch.int64 if tokens else torch.float32
    x = torch.randint(20, (64, *shape), generator=generator).float() if tokens else torch.randn(
        64, *shape, generator=generator
    )  # fmt: skip
    scheme = WeightsAndActivations(
        weight=Symmetric(bits=3, signed=True), activation=Affine(bits=5), **settings
    )
    with torch.no_grad():
        plain = quantized(fused(module, shape, dtype), x, scheme=scheme)
    starts = starts_of(plain, scheme)

    def correct(before, block):
        return QUICK.reconstruct(before, block, starts, np.random.default_rng(0))[0]

    parts = blocks(plain.graph, largest)
    found = Lockstep(batch_size=32, memory=1, folder=tmp_path).correct_blocks(plain, x, parts, correct)

    with torch.no_grad():
        y = execute(plain.graph, x)
        noise = [float((simulation_of(own)(x) - y).square().sum()) for own in (plain, found)]
    assert noise[1] < 0.9 * noise[0]
    assert set(found.levels) <= set(plain.weights)
    for requantize in ("float", "fixed_point"):
        check_parity(lower(found, requantize), x[:8])
    if tokens:
        numbers = plain.graph.input.name
        assert numbers not in starts
        assert found.activations[numbers] == plain.activations[numbers]
    assert replace(found, levels=plain.levels, activations=plain.activations) == plain
