"""The stages equalize and smooth: what they hand on is observed as the network itself would be."""

import pytest
import torch
from torch import nn

from stages.artifacts import FloatModel
from stages.data.digits import Digits
from stages.equalize import Equalize
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.smooth import Smooth


@pytest.fixture
def model():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )
    module[1].running_var.uniform_(0.01, 4.0)
    return FloatModel(graph=capture(module.eval(), (1, 8, 8)))


@pytest.mark.parametrize("stage", [Equalize(), Smooth(data=Digits(), samples=64)])
def test_the_function_stays_and_folding_again_changes_nothing(ctx, model, stage):
    graph = stage.run(ctx, {FloatModel: model}).graph
    x = torch.randn(20, 1, 8, 8)
    before, after = execute(model.graph, x), execute(graph, x)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    again = fuse(fold_batch_norm(graph))
    assert again.nodes == graph.nodes
    assert all(torch.equal(again.params[k], graph.params[k]) for n in graph.nodes for k in n.params.values())
    plain = fuse(fold_batch_norm(model.graph))
    assert [n.name for n in graph.nodes] == [n.name for n in plain.nodes]
    assert any(not torch.allclose(graph.params[k], p) for k, p in plain.params.items() if k in graph.params)


@pytest.mark.parametrize("stage", [Equalize(), Smooth(data=Digits(), samples=16)])
def test_a_network_with_nothing_to_scale_is_left_as_it_is_with_a_warning(ctx, digits_inputs, stage, capsys):
    graph = stage.run(ctx, digits_inputs).graph
    plain = fuse(fold_batch_norm(digits_inputs[FloatModel].graph))
    assert all(torch.equal(graph.params[k], plain.params[k]) for n in plain.nodes for k in n.params.values())
    assert f"{stage.name}: no" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Equalize(iterations=0), "iterations=0: must be at least 1"),
        (lambda: Equalize(tolerance=-1.0), "tolerance=-1.0: must not be negative"),
        (lambda: Smooth(data=Digits(), alpha=1.5), r"alpha=1.5: must be 0..1"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
