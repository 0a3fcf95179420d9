"""Scale migration: the float function stays, the maxima follow the paper's equation."""

import pytest
import torch
from torch import nn

from stages.corrections.smooth import smooth, smoothable
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse


@pytest.fixture
def graph():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(54, 7),
        nn.ReLU(),
        nn.Linear(7, 3),
    )
    module[0].weight.data[2] *= 50.0  # an outlier among the channels
    module[4].weight.data[5] *= 20.0
    return fuse(fold_batch_norm(capture(module.eval(), (2, 8, 8))))


@pytest.fixture
def x():
    return torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def maxima(graph, x):
    """Largest magnitudes of the first linear layer's input and weight, by channel of the convolution."""
    values = {}
    execute(graph, x, lambda node, value: values.setdefault(node.name, value))
    read = values[graph["4"].inputs[0]].reshape(len(x), 6, -1).abs().amax(dim=(0, 2))
    return read, graph.params["4.weight"].reshape(7, 6, -1).abs().amax(dim=(0, 2))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_float_output_is_unchanged(graph, x, alpha):
    before, after = execute(graph, x), execute(smooth(graph, x.split(7), alpha=alpha), x)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_maxima_follow_the_equation(graph, x, alpha):
    read, weight = maxima(graph, x)
    # the second linear layer's factors scale rows of the first one's weight: left out here
    graph = smooth(without_second(graph), x.split(7), alpha=alpha)
    new_read, new_weight = maxima(graph, x)
    torch.testing.assert_close(new_read, read ** (1 - alpha) * weight ** (1 - alpha), rtol=1e-4, atol=0)
    torch.testing.assert_close(new_weight, weight**alpha * read**alpha, rtol=1e-4, atol=0)


def without_second(graph):
    """The network up to the first linear layer."""
    nodes = graph.nodes[: [node.name for node in graph.nodes].index("4") + 1]
    return type(graph)(nodes=nodes, params=graph.params, output="4")


def test_only_linear_layers_behind_a_layer_are_smoothed(graph):
    assert [(first.name, second.name) for first, second in smoothable(graph)] == [("0", "4"), ("4", "6")]


def test_linear_layers_over_rows_are_smoothed_by_their_own_maxima(x):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    graph = fuse(fold_batch_norm(capture(module.eval(), (2, 8, 8))))
    values = {}
    after = execute(smooth(graph, x.split(7), alpha=1.0), x, lambda n, v: values.setdefault(n.name, v))
    torch.testing.assert_close(after, execute(graph, x), rtol=1e-4, atol=1e-5)
    largest = values["0"].amax(dim=(0, 1, 2))
    torch.testing.assert_close(largest, torch.ones_like(largest))


def test_a_dead_channel_stays_finite(graph, x):
    graph = graph.with_params(
        {"0.weight": graph.params["0.weight"].clone(), "0.bias": graph.params["0.bias"].clone()}
    )
    graph.params["0.weight"][3], graph.params["0.bias"][3] = 0.0, -1.0
    assert all(torch.isfinite(p).all() for p in smooth(graph, [x], alpha=0.5).params.values())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [1e-6, 1e-28, 0.0])
def test_a_channel_that_calibration_hardly_saw_is_not_blown_up(graph, x, alpha, size):
    """It may be as large as the others when the network is used: no factor differs by more than 256."""
    first, second = graph.params["0.weight"].clone(), graph.params["4.weight"].clone()
    first[3] *= size
    second.view(7, 6, 9)[:, 4] *= size
    bias = graph.params["0.bias"].clone()
    bias[3] *= size
    graph = without_second(graph.with_params({"0.weight": first, "0.bias": bias, "4.weight": second}))
    after = smooth(graph, x.split(7), alpha=alpha)
    factors = (graph.params["0.weight"][:, 0, 0, 0] / after.params["0.weight"][:, 0, 0, 0]).double()
    factors = factors[torch.isfinite(factors)]
    assert len(factors) >= 5
    assert float(factors.max() / factors.min()) <= 256.1
    torch.testing.assert_close(execute(after, x), execute(graph, x), rtol=1e-4, atol=1e-4)


def test_nothing_to_multiply_is_left_alone(graph, x):
    silent = graph.with_params({"4.weight": torch.zeros_like(graph.params["4.weight"])})
    after = smooth(silent, [x], alpha=0.5)
    assert torch.equal(after.params["0.weight"], silent.params["0.weight"])
