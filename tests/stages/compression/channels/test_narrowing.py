"""The smaller network computes what the masked one does, whatever goes, in whatever network."""

import random
import re

import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from stages.compression.channels.coupling import couple
from stages.compression.channels.narrowing import (
    check_same_function,
    masked_output,
    masks_of,
    narrowed,
)
from stages.graph.capture import capture
from stages.graph.cost import multiply_accumulates
from stages.graph.execute import execute
from stages.graph.fold import attach_batch_norm, fold_batch_norm
from stages.graph.serialize import load_graph, save_graph
from stages.models.mobilenet import MobileNetV2
from stages.models.resnet_cifar import ResNetCifar
from tests.stages.compression.channels.networks import Dense, random_network
from tests.stages.networks import Attention, Gated


def some(coupling, rng):
    """Units that may go, of which every value keeps one channel at least."""
    share = rng.uniform(0.2, 0.9)
    gone = {unit for unit in coupling.free if rng.random() < share}
    for own in coupling.channels.values():
        if gone.issuperset(own.ids.tolist()):
            gone.discard(int(rng.choice(own.ids)))
    return frozenset(gone)


def agree(graph, rng, shape, gone=None):
    """A random part of the network's channels goes, or what is given; the smaller network."""
    coupling = couple(graph)
    gone = some(coupling, rng) if gone is None else gone
    masks, small = masks_of(graph, coupling, gone), narrowed(graph, coupling, gone)
    x = torch.randn(3, *shape)
    folded = fold_batch_norm(small)
    with torch.no_grad():
        expected = masked_output(fold_batch_norm(graph), masks, x)
        found = execute(folded, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.abs().max())))
    for node in small.nodes:  # shapes are those of what is computed
        if "weight" in node.params:
            assert len(small.params[node.params["weight"]]) in (node.shape[0], node.shape[-1])
    assert bool(gone) == (len(masks) > 0)
    if gone:
        before, after = (sum(multiply_accumulates(own).values()) for own in (graph, small))
        assert after < before
    return small


@pytest.mark.parametrize("seed", range(40))
def test_a_random_network_without_channels_is_the_masked_one(seed):
    graph = attach_batch_norm(capture(random_network(seed), (3, 8, 8)))
    rng = random.Random(seed)
    for _ in range(3):
        agree(graph, rng, (3, 8, 8))


@pytest.mark.parametrize("model", [ResNetCifar(), MobileNetV2()], ids=["resnet20", "mobilenet_v2"])
def test_a_network_of_the_zoo_loses_channels_of_all_layers_but_the_last(model, tmp_path):
    graph = attach_batch_norm(capture(model.build((3, 32, 32), 10).eval(), (3, 32, 32)))
    coupling = couple(graph)
    assert list(coupling.stays.values()) == ["they are the network's outputs"]
    small = agree(graph, random.Random(0), (3, 32, 32))
    save_graph(small, tmp_path)
    assert load_graph(tmp_path).nodes == small.nodes


def test_a_dense_network_loses_channels_of_what_it_joins():
    blocks = [Dense(8 + 4 * i, 4) for i in range(5)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(28, 10)]
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, *head).eval()
    graph = attach_batch_norm(capture(module, (3, 8, 8)))
    coupling = couple(graph)
    assert len(coupling.free) == 28 and len(coupling.stays) == 1
    for seed in range(3):
        agree(graph, random.Random(seed), (3, 8, 8))


@pytest.mark.parametrize("model", [Gated(), Attention()], ids=["gated", "transformer"])
def test_gates_and_attention_lose_channels(model):
    graph = attach_batch_norm(capture(model.build((1, 8, 8), 10).eval(), (1, 8, 8)))
    assert len(couple(graph).free) >= 72
    for seed in range(3):
        agree(graph, random.Random(seed), (1, 8, 8))


class Words(nn.Module):
    """Tokens that are looked up, and a constant that is added."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.offset = nn.Parameter(torch.randn(5, 8))
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(torch.tanh(self.first(self.table(x) + self.offset)).amax(1))


def test_embeddings_and_what_is_added_to_them_lose_channels():
    graph = attach_batch_norm(capture(Words().eval(), (5,), dtype=torch.int64))
    coupling = couple(graph)
    assert list(coupling.stays) == ["second"]
    gone = frozenset(coupling.channels["first"].ids[:2].tolist()) | frozenset(
        coupling.channels[graph["first"].inputs[0]].ids[:3].tolist()
    )
    # units are free by layers alone: those of the table have none that writes them
    small = narrowed(graph, coupling, gone)
    assert small.params[small[graph.nodes[1].name].params["table"]].shape == (11, 5)
    x = torch.randint(0, 11, (4, 5)).float()
    with torch.no_grad():
        expected = masked_output(graph, masks_of(graph, coupling, gone), x)
        torch.testing.assert_close(execute(small, x), expected)


class Folding(nn.Module):
    """A sigmoid between two layers, of which the second has a bias, a BatchNorm, or neither."""

    def __init__(self, second):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), second

    def forward(self, x):
        return self.second(torch.sigmoid(self.first(x))).mean((2, 3))


@pytest.mark.parametrize(
    ("second", "free"),
    [
        (nn.Conv2d(6, 4, 3), True),
        (nn.Conv2d(6, 4, 3, bias=False), True),
        (nn.Sequential(nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)), True),
        (nn.Sequential(nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4, affine=False)), True),
        (nn.Conv2d(6, 4, 3, padding=1), False),
        (nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.Conv2d(6, 4, 3)), False),
    ],
)
def test_what_a_lost_channel_was_is_folded_on_unless_it_is_padded(second, free):
    graph = attach_batch_norm(capture(Folding(second).eval(), (3, 8, 8)))
    coupling = couple(graph)
    assert bool(coupling.free) == free
    if free:
        first = coupling.channels["first"].ids[:4].tolist()
        small = agree(graph, random.Random(1), (3, 8, 8), frozenset(first))
        assert small["first"].shape[0] == 2
    else:
        assert re.fullmatch(r"'second(\.1)?' pads what is not 0 without them", coupling.stays["first"])


def test_a_network_that_computes_something_else_is_refused():
    graph = fold_batch_norm(capture(random_network(0), (3, 8, 8)))
    other = graph.with_params({key: t + 0.1 for key, t in graph.params.items()})
    with pytest.raises(PipelineError, match=r"differs by .* Remedy: compression.narrow.method.stay"):
        check_same_function(graph, other, {})
    check_same_function(graph, graph, {})
