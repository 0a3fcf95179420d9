"""Stage *capture*: the module is built anew, and gets what was trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.stage import in_order
from stages.artifacts import FloatModel, TrainedModel
from stages.capture import Capture
from stages.data.digits import Digits
from stages.graph.execute import execute
from stages.models.base import build
from stages.models.mobilenet_digits import MobileNetDigits
from tests.composed import built

DATA = Digits()


class Scaled(nn.Module):
    """Two layers of one weight, a buffer that no state dict holds, and one that is drawn by chance."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.last = nn.Linear(64, 10)
        self.register_buffer("scale", torch.ones(64), persistent=False)
        self.drawn = torch.randn(64)

    def forward(self, x):
        x = self.first(torch.flatten(x, 1)) * self.scale + self.drawn
        return self.last(torch.relu(self.second(x)))


@dataclass(frozen=True, kw_only=True)
class ScaledModel:
    weights: str | None = None
    width: int = 64

    def build(self, shape, num_classes):
        return Scaled()

    def fingerprint(self):
        return ""


class Refused(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class RefusedModel(ScaledModel):
    def build(self, shape, num_classes):
        return Refused()


def captured(model, trained, ctx):
    return Capture(model=model, data=DATA).run(ctx, {TrainedModel: trained})


def test_the_graph_computes_what_the_trained_module_does(ctx, tmp_path):
    """Tied weights, buffers outside the state dict, constants drawn by the seed: those of the training."""
    module = build(ScaledModel(), DATA, ctx.seed)
    with torch.no_grad():
        module.first.weight.add_(0.1)
        module.scale.mul_(3.0)
    trained = TrainedModel.of(module)
    trained.save(tmp_path)
    x = torch.rand(5, *DATA.shape)
    for artifact in (trained, TrainedModel.load(tmp_path)):
        graph = captured(ScaledModel(), artifact, ctx).graph
        torch.testing.assert_close(execute(graph, x), module(x), rtol=1e-5, atol=1e-5)


def test_a_tensor_of_several_names_is_kept_once(ctx):
    state = TrainedModel.of(build(ScaledModel(), DATA, ctx.seed)).state
    assert sorted(state) == ["first.bias", "first.weight", "last.bias", "last.weight", "scale", "second.bias"]


def test_batch_norm_statistics_come_along(ctx):
    model = MobileNetDigits()
    module = build(model, DATA, ctx.seed)
    module(torch.rand(8, *DATA.shape))  # moves them
    artifact = captured(model, TrainedModel.of(module), ctx)
    assert isinstance(artifact, FloatModel)
    x = torch.rand(4, *DATA.shape)
    torch.testing.assert_close(execute(artifact.graph, x), module.eval()(x), rtol=1e-4, atol=1e-4)


def test_a_module_that_is_built_otherwise_is_refused_by_the_names_of_tensors(ctx):
    trained = TrainedModel.of(build(ScaledModel(), DATA, ctx.seed))
    other = replace(trained, state={**trained.state, "first.bias": torch.zeros(3), "more": torch.zeros(1)})
    with pytest.raises(PipelineError, match=r"other tensors than were trained: first\.bias, more\. Remedy"):
        captured(ScaledModel(), other, ctx)


def test_what_no_graph_can_hold_is_refused_by_the_check():
    with pytest.raises(PipelineError, match=r"mean in the root module: .* it mixes the samples"):
        Capture(model=RefusedModel(), data=DATA).check()


def test_it_stands_between_train_and_baseline():
    names = [stage.name for stage in in_order(built().stages)]
    assert names[:3] == ["train", "capture", "baseline"]
