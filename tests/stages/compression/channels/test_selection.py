"""Budgets are met, in bundles of least score, and refused where they cannot be."""

import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from stages.compression.channels.costs import Costs
from stages.compression.channels.coupling import couple
from stages.compression.channels.narrowing import narrowed
from stages.compression.channels.scores import unit_scores
from stages.compression.channels.selection import ChannelSelection, Width
from stages.graph.capture import capture
from stages.graph.cost import multiply_accumulates
from stages.graph.fold import attach_batch_norm
from stages.models.resnet_cifar import ResNetCifar
from tests.stages.compression.channels.networks import random_network


def prepared(module, shape):
    graph = attach_batch_norm(capture(module.eval(), shape))
    return graph, couple(graph)


def weights(graph):
    return sum(graph.params[node.params["weight"]].numel() for node in graph.nodes if "weight" in node.params)


def chosen(graph, coupling, method, share=1.0):
    widths = method.widths(graph, coupling)
    scores = unit_scores(graph, coupling, method.score)
    return method.choose(graph, coupling, widths, scores, share)


@pytest.fixture(scope="module")
def resnet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return prepared(ResNetCifar().build((3, 32, 32), 10), (3, 32, 32))


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.2])
@pytest.mark.parametrize("score", ["l1", "l2", "gamma"])
def test_operations_are_at_most_the_share_and_no_less_than_need_be(resnet, keep, score):
    graph, coupling = resnet
    gone = chosen(graph, coupling, ChannelSelection(keep=keep, score=score, round_to=1))
    dense, now = (sum(multiply_accumulates(own).values()) for own in (graph, narrowed(graph, coupling, gone)))
    assert keep - 0.03 < now / dense <= keep


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("budget", ["operations", "weights"])
def test_costs_are_those_of_the_smaller_network(seed, budget):
    graph, coupling = prepared(random_network(seed), (3, 8, 8))
    costs = Costs(graph, coupling, budget)
    gone = set()
    for unit in sorted(coupling.free)[::2]:
        if costs.may_go([unit], 1):
            costs.remove([unit])
            gone.add(unit)
    small = narrowed(graph, coupling, frozenset(gone))
    of = weights if budget == "weights" else lambda own: sum(multiply_accumulates(own).values())
    assert (round(costs.dense), round(costs.now)) == (of(graph), of(small))


def test_layers_keep_multiples_of_channels(resnet):
    graph, coupling = resnet
    gone = chosen(graph, coupling, ChannelSelection(keep=0.5))
    small = narrowed(graph, coupling, gone)
    widths = {len(small.params[n.params["weight"]]) for n in small.nodes if n.op == "conv2d"}
    assert widths <= {16, 32, 48, 64} and 16 in widths


def test_the_least_of_a_width_go_first_and_a_bundle_at_a_time():
    width = Width(layers=("a",), units=(3, 4, 5, 6, 7), channels=1)
    scores = {3: 0.5, 4: 0.1, 5: 0.9, 6: 0.2, 7: 0.3}
    assert width.bundles(scores, 2) == [(4,), (6, 7), (3, 5)]
    assert width.bundles(scores, 1) == [(4,), (6,), (7,), (3,), (5,)]
    doubled = Width(layers=("a",), units=(3, 4, 5, 6, 7), channels=2)  # two channels a unit
    assert doubled.bundles(scores, 4) == [(4,), (6, 7), (3, 5)]


def test_a_layer_budget_is_met_by_each(resnet):
    graph, coupling = resnet
    small = narrowed(
        graph, coupling, chosen(graph, coupling, ChannelSelection(keep=0.5, budget="layer", round_to=2))
    )
    for name in ("layer1.0.conv1", "layer2.1.conv1", "layer3.2.conv1"):
        before, after = (len(own.params[own[name].params["weight"]]) for own in (graph, small))
        assert after == before // 2


def test_a_schedule_takes_part_of_what_goes(resnet):
    graph, coupling = resnet
    method = ChannelSelection(keep=0.5, round_to=1)
    counts = [len(chosen(graph, coupling, method, share)) for share in (0.0, 0.3, 1.0)]
    assert counts[0] == 0 < counts[1] < counts[2]


def test_layers_that_stay_keep_their_channels(resnet):
    graph, coupling = resnet
    gone = chosen(graph, coupling, ChannelSelection(keep=0.6, round_to=1, stay=["layer1*", "conv1"]))
    small = narrowed(graph, coupling, gone)
    assert len(small.params[small["layer1.0.conv1"].params["weight"]]) == 16
    with pytest.raises(
        PipelineError, match=r"method.stay: the pattern 'fc\*' matches no layer. Remedy: one of c"
    ):
        ChannelSelection(stay=["fc*"]).widths(graph, coupling)


def test_a_budget_that_cannot_be_met_is_refused(resnet):
    graph, coupling = resnet
    with pytest.raises(
        PipelineError, match=r"keep=0.01: at least 0\.\d+ of operations stays with round_to=16"
    ):
        chosen(graph, coupling, ChannelSelection(keep=0.01))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.0}, "keep=0.0: must be a share of operations"),
        ({"keep": 1.5, "budget": "weights"}, "keep=1.5: must be a share of weights"),
        ({"round_to": 0}, "round_to=0: must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ChannelSelection(**settings)


def test_scores_are_norms_of_folded_filters_over_their_layers_mean():
    own = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1))
    own[0].weight.data = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    own[1].weight.data = torch.tensor([-2.0, 2.0])
    own[1].running_var.fill_(1.0 - own[1].eps)
    graph, coupling = prepared(own, (1, 4, 4))
    first, second = coupling.channels[graph.nodes[1].name].ids.tolist()
    assert unit_scores(graph, coupling, "l2") == pytest.approx({first: 0.5, second: 1.5})
    assert unit_scores(graph, coupling, "gamma") == {first: 2.0, second: 2.0}
    plain, coupling = prepared(nn.Sequential(own[0], nn.ReLU(), own[3]), (1, 4, 4))
    assert set(unit_scores(plain, coupling, "gamma").values()) == {float("inf")}
