"""Stage *train*: further training in float, from given weights or after a first training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from pipeline.store.keys import identity
from stages.artifacts import TrainedModel
from stages.data.digits import Digits
from stages.models.mobilenet_digits import MobileNetDigits
from stages.train import Train
from stages.training.fit import FloatTraining, fit
from tests.composed import built

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Digits()
FIRST = FloatTraining(epochs=1)
SECOND = FloatTraining(epochs=2, learning_rate=0.02, held_out=0.1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights after a short training."""
    torch.manual_seed(3)
    module = MobileNetDigits().build(DATA.shape, DATA.num_classes)
    fit(module, DATA, FIRST, seed=3)
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(module.state_dict(), file)
    return str(file)


def stage(weights=None, further=None):
    return Train(model=MobileNetDigits(weights=weights), data=DATA, training=FIRST, further=further)


def params(stage, ctx):
    return stage.run(ctx, {}).state


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_given_weights_stay_without_further_training(ctx, weights):
    assert equal(params(stage(weights), ctx), params(stage(weights), ctx))
    assert ctx.tracker.seen == []


def test_given_weights_are_trained_further_by_the_second_recipe_alone(ctx, weights):
    loaded, further = params(stage(weights), ctx), params(stage(weights, SECOND), ctx)
    assert not equal(loaded, further)
    module = MobileNetDigits(weights=weights).build(DATA.shape, DATA.num_classes)
    fit(module, DATA, SECOND, seed=ctx.seed)
    assert equal(TrainedModel.of(module).state, further)
    assert [step for step, _ in ctx.tracker.seen] == [1, 2]
    assert set(ctx.tracker.seen[0][1]) == {"further/loss", "further/top1", "further/held_out_top1"}


def test_a_network_trained_here_goes_on_where_the_first_training_ended(ctx):
    further = params(stage(further=SECOND), ctx)
    once = stage(further=replace(SECOND, epochs=0)).run(ctx, {}).state
    assert equal(once, params(stage(), ctx)) and not equal(once, further)


def test_training_from_scratch_leaves_given_weights_aside(ctx, weights):
    """training=qat_scratch with a model.weights would else be a fine-tuning by another recipe."""
    train = built("training=qat_scratch", f"model.weights={weights}").stages["train"]
    scratch = params(train, ctx)
    assert equal(scratch, params(built("training=qat_scratch").stages["train"], ctx))
    assert not equal(scratch, params(stage(weights), ctx))


class Killer:
    """A tracker that ends the run at an epoch of a training, as a kill would."""

    def __init__(self, name, step):
        self._name, self._step = name, step

    def tags(self, values):
        self.said = dict(values)

    def metrics(self, values, step=None):
        if f"{self._name}/loss" in values and step == self._step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "step"), [("train", 1), ("further", 1), ("further", 2)])
def test_a_killed_training_resumes_to_the_same_bits(ctx, tmp_path, name, step):
    whole = params(stage(further=SECOND), replace(ctx, scratch=tmp_path / "whole"))
    ctx = replace(ctx, scratch=tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        stage(further=SECOND).run(replace(ctx, tracker=Killer(name, step)), {})
    assert (ctx.scratch / f"{name}.safetensors").is_file()
    assert equal(params(stage(further=SECOND), ctx), whole)


def test_the_option_trains_further_as_quantized_training_does():
    further = built("training=float_finetune").stages
    assert further["train"].further == built("training=qat_finetune").stages["finetune"].recipe
    assert further["finetune"] is None and built("training=post_training").stages["train"].further is None


def test_threads_matter_where_anything_is_trained(weights):
    none = replace(FIRST, epochs=0)
    assert stage().depends_on_threads and stage(weights, SECOND).depends_on_threads
    assert not stage(weights).depends_on_threads and not stage(weights, none).depends_on_threads
    scratch = built("training=qat_scratch", f"model.weights={weights}").stages
    assert not scratch["train"].depends_on_threads and scratch["finetune"].depends_on_threads


def test_a_training_depends_on_no_translation_calibrator_or_backend():
    """Editing one of them must not train again; by imports, so a new one of these modules counts as well."""
    code = identity(stage(), threads=1)["code"]
    rooms = {module.partition(".")[2].partition(".")[0] for module in code if module.startswith("stages.")}
    assert rooms == {"artifacts", "data", "models", "tasks", "train", "training"}
    assert not {name for name in code if "/" in name}


def test_calibration_depends_on_no_engine():
    code = identity(built().stages["calibrate"], threads=1)["code"]
    assert not [name for name in code if name.startswith(("stages.backends", "stages/", "stages.exporters"))]


def test_evaluation_depends_on_the_sources_of_the_engine():
    code = identity(built().stages["evaluate"], threads=1)["code"]
    assert "stages/backends/native_kernels/source/engine.cpp" in code
    assert "stages.integer.kernels.conv2d" in code
