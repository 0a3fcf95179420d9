"""Sensitivity against running the whole network with one layer rounded."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.points import layers
from stages.precision.sensitivity import Sensitivity, macs
from stages.quant.qparams import dequantize, quantize
from stages.quant.quantizers.symmetric import Symmetric
from stages.tasks.classification import Classification


class Branches(nn.Module):
    """Two branches and a sum, so that not everything behind a layer depends on it."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.right = nn.Conv2d(4, 6, 1, stride=2, groups=2)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        y = torch.relu(self.left(y) + torch.relu(self.right(y)))
        return self.fc(nn.functional.avg_pool2d(y, 4).flatten(1))


@pytest.fixture(scope="module")
def graph():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fuse(fold_batch_norm(capture(Branches().eval(), (2, 8, 8))))


@pytest.fixture(scope="module")
def rounded(graph):
    """All layers at 2, 4 and 8 bits."""
    found = {}
    for name in layers(graph):
        weight = graph.params[graph[name].params["weight"]]
        grids = {b: Symmetric(bits=b, signed=True).qparams(weight.min(), weight.max()) for b in (2, 4, 8)}
        found[name] = {b: (quantize(weight, grid), grid) for b, grid in grids.items()}
    return found


@pytest.fixture(scope="module")
def samples():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 2, 8, 8, generator=generator)
    return x, torch.randint(3, (30,), generator=generator)


@pytest.mark.parametrize("batch_size", [30, 8])
def test_effects_are_those_of_the_whole_network(graph, rounded, samples, batch_size):
    x, y = samples
    sensitivity = Sensitivity(graph, rounded, Classification())
    for batch in zip(x.split(batch_size), y.split(batch_size), strict=True):
        sensitivity.update(*batch)
    effects = sensitivity.effects()
    f = execute(graph, x).double()
    assert list(effects) == list(layers(graph))
    for name, by_bits in effects.items():
        for bits, effect in by_bits.items():
            key = graph[name].params["weight"]
            g = execute(graph.with_params({key: dequantize(*rounded[name][bits])}), x).double()
            sqnr = 10 * math.log10(float(f.square().sum() / (g - f).square().sum()))
            p, q = f.softmax(1), g.softmax(1)
            assert effect.sqnr_db == pytest.approx(sqnr, abs=0.01)
            assert effect.divergence == pytest.approx(
                float((p * (p / q).log()).sum(1).mean()), rel=1e-3, abs=1e-9
            )
            change = float(F.cross_entropy(g, y) - F.cross_entropy(f, y))
            assert effect.loss_change == pytest.approx(change, rel=1e-3, abs=1e-6)


def test_more_bits_disturb_less(graph, rounded, samples):
    sensitivity = Sensitivity(graph, rounded, Classification())
    sensitivity.update(*samples)
    for by_bits in sensitivity.effects().values():
        assert by_bits[2].sqnr_db < by_bits[4].sqnr_db < by_bits[8].sqnr_db
        assert by_bits[2].divergence > by_bits[4].divergence > by_bits[8].divergence >= 0.0


def test_macs_count_positions_and_groups(graph):
    assert [macs(graph, name) for name in ("stem", "left", "right", "fc")] == [
        8 * 8 * 4 * 2 * 9,
        4 * 4 * 6 * 4 * 9,
        4 * 4 * 6 * 2,
        3 * 6,
    ]
