"""The stage narrow on real digits: a smaller network, trained, that all later stages take as any other."""

from dataclasses import replace

import pytest
import torch

from pipeline.errors import PipelineError
from stages.artifacts import FloatModel, Observations
from stages.calibrate import Calibrate
from stages.compression.channels.objective import ChannelObjective
from stages.compression.channels.selection import ChannelSelection
from stages.compression.magnitude import Magnitude
from stages.compression.schedule import PruningSchedule
from stages.compression.taught import TaughtObjective
from stages.data.digits import Digits
from stages.equalize import Equalize
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.lower import lower
from stages.narrow import Narrow
from stages.observe import Observe
from stages.prune import Prune
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.tasks.classification import Classification
from stages.training.fit import FloatTraining
from stages.training.float_network import FloatNetwork
from stages.training.qat_objective import Distillation

DATA = Digits()
STAGE = Narrow(
    data=DATA,
    method=ChannelSelection(keep=0.5, round_to=4),
    recipe=FloatTraining(epochs=1, learning_rate=0.02),
)


def kept(model):
    before, after = (sum(layer.operations[i] for layer in model.narrowed) for i in range(2))
    return after / before


@pytest.mark.parametrize("end", [0.0, 0.5])
def test_the_network_that_comes_out_is_smaller_and_has_learned(ctx, digits_inputs, end):
    found = replace(STAGE, schedule=PruningSchedule(end=end, updates=5)).run(ctx, digits_inputs)
    assert 0.35 < kept(found) <= 0.5
    dense = digits_inputs[FloatModel]
    assert found.metrics()["model/float_macs"] == sum(own.operations[1] for own in found.narrowed)
    assert found.metrics()["model/parameters"] < dense.metrics()["model/parameters"]
    assert not found.graph.pruned
    seen = [set(values) for _, values in ctx.tracker.seen]
    assert seen == [{"narrow/loss", "narrow/top1"}]


def test_without_training_it_is_what_the_masked_network_computes(ctx, digits_inputs):
    stage = replace(STAGE, recipe=FloatTraining(epochs=0))
    assert not stage.depends_on_threads and STAGE.depends_on_threads
    found = stage.run(ctx, digits_inputs)
    network = FloatNetwork(digits_inputs[FloatModel].graph)
    inner = TaughtObjective(network, Classification(), 0.0, lambda x: x, Distillation())
    objective = ChannelObjective(network, stage.method, stage.schedule, inner)
    objective.choose(1.0)
    x = torch.randn(4, *found.graph.input.shape)
    with torch.no_grad():
        torch.testing.assert_close(
            execute(fold_batch_norm(found.graph), x), network.eval()(x), rtol=1e-4, atol=1e-4
        )


def test_masks_are_saved_with_the_weights(digits_inputs):
    def objective_of(network):
        inner = TaughtObjective(network, Classification(), 0.0, lambda x: x, Distillation())
        return ChannelObjective(network, STAGE.method, STAGE.schedule, inner)

    first, second = (FloatNetwork(digits_inputs[FloatModel].graph) for _ in range(2))
    before, after = objective_of(first), objective_of(second)
    before.choose(0.7)
    second.load_state_dict(first.state_dict())
    assert before.gone() and after.gone() == before.gone()
    x, y = torch.randn(4, *digits_inputs[FloatModel].graph.input.shape), torch.zeros(4, dtype=torch.long)
    steps = 100  # at step 99 none are chosen
    assert torch.equal(before.loss(x, y, 99, steps)[0], after.loss(x, y, 99, steps)[0])


def test_later_stages_take_it_and_what_it_was_is_kept(ctx, digits_inputs, tmp_path):
    found = replace(STAGE, recipe=FloatTraining(epochs=0)).run(ctx, digits_inputs)
    found.save(tmp_path)
    loaded = FloatModel.load(tmp_path)
    assert loaded.narrowed == found.narrowed and loaded.graph.nodes == found.graph.nodes
    own = {FloatModel: Equalize().run(ctx, {FloatModel: found})}
    assert own[FloatModel].narrowed == found.narrowed
    zeros = Prune(data=DATA, method=Magnitude(keep=0.5), recipe=FloatTraining(epochs=0)).run(
        ctx, {FloatModel: found}
    )
    assert zeros.narrowed == found.narrowed and zeros.graph.pruned
    own[Observations] = Observe(data=DATA, samples=32).run(ctx, own)
    eight = Symmetric(bits=8, signed=True)
    stage = Calibrate(
        quantizer=WeightsAndActivations(weight=eight, activation=Symmetric(bits=8)),
        calibration=Calibration(activation=MinMax()),
        granularity=PerChannel(),
    )
    program = lower(stage.run(ctx, own).quantized, "float")
    sizes = {op.output: len(op.tensors["weight"]) for op in program.ops if "weight" in op.tensors}
    assert list(sizes.values()) == [layer.channels[1] for layer in found.narrowed]


def test_what_cannot_be_is_refused_before_anything_is_trained(ctx, digits_inputs):
    stage = replace(STAGE, method=ChannelSelection(keep=0.01, round_to=16))
    with pytest.raises(
        PipelineError, match=r"compression.narrow.method.keep=0.01: at least 0\.\d+ of operations"
    ):
        stage.run(ctx, digits_inputs)
    assert not ctx.tracker.seen
