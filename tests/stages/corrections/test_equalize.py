"""Equalization leaves the float output unchanged to 1e-5 and makes the channel ranges of a pair equal."""

import math

import pytest
import torch
from torch import nn

from stages.corrections.equalize import LIMIT, equalizable, equalize
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.points import layers, quantization_points, sources
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import simulation_of
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.weights import weight_qparams


def uneven(module: nn.Module) -> nn.Module:
    """Channel ranges that differ by up to a thousand."""
    generator = torch.Generator().manual_seed(0)
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            gain = 10 ** (3 * torch.rand(m.weight.shape[0], generator=generator) - 2)
            m.weight.data *= gain.reshape(-1, *[1] * (m.weight.ndim - 1))
    return module.eval()


def depthwise(activation):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        activation(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        activation(),
        nn.Conv2d(8, 6, 1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 16, 5),
    )


def graph_of(module):
    return fuse(fold_batch_norm(capture(uneven(module), (3, 8, 8))))


def test_the_float_output_is_unchanged():
    graph = graph_of(depthwise(nn.ReLU))
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    before, after = execute(graph, x), execute(equalize(graph), x)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


def test_ranges_on_both_sides_of_a_channel_become_equal():
    """As the paper has it, where no bias is in the way."""
    graph = graph_of(depthwise(nn.ReLU))
    graph = graph.with_params({k: torch.zeros_like(p) for k, p in graph.params.items() if k.endswith("bias")})
    graph = equalize(graph, iterations=200, tolerance=1e-6)
    first, second = graph.params["0.weight"], graph.params["2.weight"]
    r1, r2 = first.abs().amax((1, 2, 3)), second.abs().amax((1, 2, 3))
    torch.testing.assert_close(r1, r2, rtol=1e-3, atol=0)
    linear = graph.params["8.weight"].reshape(5, 6, 16).abs().amax((0, 2))
    torch.testing.assert_close(graph.params["4.weight"].abs().amax((1, 2, 3)), linear, rtol=1e-3, atol=0)


def test_the_spread_of_a_layer_shrinks():
    graph = graph_of(depthwise(nn.ReLU))

    def spread(g):
        ranges = g.params["2.weight"].abs().amax((1, 2, 3))
        return float(ranges.max() / ranges.min())

    assert spread(equalize(graph)) < 0.5 * spread(graph)


def test_a_bounded_activation_is_left_alone_unless_it_may_be_replaced():
    graph = graph_of(depthwise(nn.ReLU6))
    assert [(a.name, b.name) for a, b in equalizable(graph)] == [("4", "8")]
    opened = equalize(graph, replace_relu6=True)
    assert [node.clamp_max for node in opened.nodes if node.op == "conv2d"] == [None] * 3
    x = 0.01 * torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(execute(opened, x), execute(graph, x), rtol=1e-4, atol=1e-5)


class Branch(nn.Module):
    """A value with two readers, and a sum: neither can be scaled for one reader alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y = torch.relu(self.a(x))
        return self.c(torch.relu(self.b(y) + y))


class Rows(nn.Module):
    """Linear layers over the rows of an image, whose channels are the last dimension."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.a, self.b, self.c = nn.Linear(8, 6), nn.Linear(6, 7), nn.Linear(4 * 8 * 7, 5)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.c(x.flatten(1))


def test_linear_layers_over_rows_pair_only_with_each_other():
    graph = graph_of(Rows())
    assert [(a.name, b.name) for a, b in equalizable(graph)] == [("a", "b")]
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    before, after = execute(graph, x), execute(equalize(graph), x)
    assert not torch.equal(graph.params["a.weight"], equalize(graph).params["a.weight"])
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


def test_values_with_other_readers_and_sums_are_left_alone():
    graph = graph_of(Branch())
    assert equalizable(graph) == []


@pytest.mark.parametrize("dead", ["first", "second"])
def test_a_dead_channel_keeps_finite_weights(dead):
    module = depthwise(nn.ReLU)
    (module[0] if dead == "first" else module[2]).weight.data[3] = 0.0
    graph = equalize(graph_of(module))
    assert all(torch.isfinite(t).all() for t in graph.params.values())


def noise(graph, x, granularity):
    """SQNR in dB of 8 bits by min/max."""
    values, points = {}, set(quantization_points(graph))
    execute(graph, x, lambda node, value: values.setdefault(node.name, value))
    activations = {n: Symmetric(bits=8).qparams(values[n].min(), values[n].max()) for n in points}
    weights = {
        name: weight_qparams(
            graph.params[graph[name].params["weight"]],
            graph.param(graph[name], "bias"),
            activations[sources(graph)[graph[name].inputs[0]]].scale,
            Symmetric(bits=8, signed=True),
            MinMax(),
            granularity,
        )
        for name in layers(graph)
    }
    quantized = QuantizedGraph(graph=graph, activations=activations, weights=weights)
    expected, found = execute(graph, x), simulation_of(quantized)(x)
    return 10 * math.log10(float(expected.square().sum() / (expected - found).square().sum()))


@pytest.mark.parametrize("size", [1e-2, 1e-6, 1e-28, 0.0])
@pytest.mark.parametrize("bias", [0.1, 1.0, -1.0, 0.0])
@pytest.mark.parametrize("layer", ["0", "2", "5"])
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()])
def test_a_channel_of_next_to_nothing_but_a_bias_costs_nothing(size, bias, layer, granularity):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )
    module[int(layer)].weight.data[3] *= size
    module[int(layer)].bias.data[3] = bias
    graph = fuse(fold_batch_norm(capture(module.eval(), (3, 8, 8))))
    x = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert noise(equalize(graph), x, granularity) > noise(graph, x, granularity) - 1.5


def test_altogether_channels_are_scaled_by_the_limit_at_the_most():
    module = depthwise(nn.ReLU)
    graph = graph_of(module)
    weight = graph.params["4.weight"].clone()
    weight[0] *= 1e-20
    graph = graph.with_params({"4.weight": weight, "4.bias": torch.zeros(6)})
    after = equalize(graph, iterations=50)
    ratio = float((after.params["8.weight"][:, :16] / graph.params["8.weight"][:, :16]).median())
    assert ratio == pytest.approx(1.0 / LIMIT, rel=1e-4)


def test_layers_that_share_a_weight_are_left_alone():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = torch.relu(self.b(torch.relu(self.b(torch.relu(self.a(x))))))
            return self.c(torch.relu(self.c(x)))

    assert equalizable(graph_of(Shared())) == []
