"""The stages adaround, reconstruct and bias on real digits."""

from dataclasses import replace

import pytest
import torch

from pipeline.errors import PipelineError
from stages.adaround import AdaRound
from stages.artifacts import Observations, QuantizedModel
from stages.bias import BiasCorrection
from stages.calibrate import Calibrate
from stages.corrections.adaround import Rounding
from stages.corrections.reconstruct import Reconstruction
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.graph.points import layers
from stages.graph.simulate import simulation_of
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.codebook import Codebook
from stages.quant.quantizers.symmetric import Symmetric
from stages.reconstruct import Reconstruct

DATA = Digits()
QUICK = AdaRound(data=DATA, rounding=Rounding(iterations=40, batch_size=256), memory=2)
THREE_BITS, EIGHT_BITS = Symmetric(bits=3, signed=True), Symmetric(bits=8)
FAST = Reconstruction(iterations=80, learning_rate=0.2)


def reconstruct(weight=THREE_BITS, activation=EIGHT_BITS, layers=None, **changes):
    quantizer = WeightsAndActivations(weight=weight, activation=activation, layers=layers)
    return Reconstruct(data=DATA, quantizer=quantizer, optimization=FAST, memory=2, **changes)


def calibrated(ctx, digits_inputs, weight=THREE_BITS, activation=EIGHT_BITS, layers=None):
    stage = Calibrate(
        quantizer=WeightsAndActivations(weight=weight, activation=activation, layers=layers),
        calibration=Calibration(activation=MinMax()),
        granularity=PerChannel(),
    )
    return {**digits_inputs, QuantizedModel: stage.run(ctx, digits_inputs)}


def noise(quantized):
    """Squared error of the logits on test samples, which no correction has seen."""
    with torch.inference_mode():
        return sum(
            float((simulation_of(quantized)(x) - execute(quantized.graph, x)).square().sum())
            for x, _ in batches(DATA.test(), 360, DATA)
        )


def test_each_correction_brings_the_logits_closer_to_the_float_networks(ctx, digits_inputs):
    inputs = calibrated(ctx, digits_inputs)
    plain = inputs[QuantizedModel].quantized
    rounded = QUICK.run(ctx, inputs)
    both = BiasCorrection(data=DATA).run(ctx, {**inputs, QuantizedModel: rounded})
    corrected = BiasCorrection(data=DATA).run(ctx, inputs)
    assert noise(rounded.quantized) < 0.7 * noise(plain)
    assert noise(corrected.quantized) < 0.9 * noise(plain)
    assert noise(both.quantized) < 0.7 * noise(plain)
    assert both.quantized.graph is plain.graph


def test_adaround_records_each_layers_error(ctx, digits_inputs):
    inputs = calibrated(ctx, digits_inputs)
    result = QUICK.run(ctx, inputs).quantized
    names = layers(result.graph)
    assert list(result.levels) == list(names)
    assert [step for step, _ in ctx.tracker.seen] == list(range(len(names)))
    assert all(0.0 < values["adaround/relative_error"] <= 1.0 for _, values in ctx.tracker.seen)


def test_reconstruction_learns_scales_and_levels_of_all_blocks(ctx, digits_inputs):
    four = Symmetric(bits=4)
    inputs = calibrated(ctx, digits_inputs, activation=four)
    plain = inputs[QuantizedModel].quantized
    found = reconstruct(activation=four).run(ctx, inputs).quantized
    assert noise(found) < 0.6 * noise(plain)
    assert noise(found) < noise(QUICK.run(ctx, inputs).quantized)
    assert found.graph is plain.graph
    changed = {
        name for name, q in found.activations.items() if not torch.equal(q.scale, plain.qparams(name).scale)
    }
    assert changed == set(plain.activations) - {plain.graph.input.name}
    relative = [
        values["reconstruct/relative_error"] for _, values in ctx.tracker.seen if "reconstruct" in str(values)
    ]
    assert len(relative) < len(layers(plain.graph))
    assert all(0.0 < one < 1.0 for one in relative)


def test_reconstruction_keeps_levels_that_a_quantizer_chose(ctx, digits_inputs):
    rule = {"classifier": {"weight": Codebook(bits=4)}}
    inputs = calibrated(ctx, digits_inputs, layers=rule)
    chosen = inputs[QuantizedModel].quantized.levels
    found = reconstruct(layers=rule).run(ctx, inputs).quantized.levels
    assert torch.equal(found["classifier"], chosen["classifier"])


@pytest.mark.parametrize("stage", [QUICK, reconstruct()])
def test_program_and_disk_hold_the_corrections(stage, ctx, digits_inputs, tmp_path):
    inputs = calibrated(ctx, digits_inputs)
    rounded = stage.run(ctx, inputs)
    model = BiasCorrection(data=DATA).run(ctx, {**inputs, QuantizedModel: rounded})
    model.save(tmp_path)
    loaded = QuantizedModel.load(tmp_path).quantized
    x = next(batches(DATA.test(), 50, DATA))[0]
    assert torch.equal(simulation_of(loaded)(x), simulation_of(model.quantized)(x))
    for op in lower(loaded, "float").ops:
        if op.output in loaded.levels:
            assert torch.equal(torch.from_numpy(op.tensors["weight"]), loaded.levels[op.output])
            bias = loaded.integer_bias(loaded.graph[op.output])
            assert torch.equal(torch.from_numpy(op.tensors["bias"]), bias)


def test_memory_changes_nothing_where_all_positions_are_used(ctx, digits_inputs):
    inputs = calibrated(ctx, digits_inputs)
    first, second = (
        BiasCorrection(data=DATA, memory=memory).run(ctx, inputs).quantized.biases for memory in (1, 500)
    )
    assert all(torch.equal(bias, second[name]) for name, bias in first.items())


def test_levels_that_a_quantizer_chose_are_not_rounded_again(ctx, digits_inputs):
    rule = {"classifier": {"weight": Codebook(bits=4)}}
    inputs = calibrated(ctx, digits_inputs, layers=rule)
    chosen = inputs[QuantizedModel].quantized.levels
    rounded = QUICK.run(ctx, inputs).quantized.levels
    assert list(chosen) == ["classifier"]
    assert torch.equal(rounded["classifier"], chosen["classifier"])
    assert len(rounded) == len(layers(inputs[QuantizedModel].quantized.graph))


def test_biases_are_corrected_where_activations_stay_float(ctx, digits_inputs):
    inputs = calibrated(ctx, digits_inputs, activation=None)
    plain = inputs[QuantizedModel].quantized
    corrected = BiasCorrection(data=DATA).run(ctx, inputs).quantized
    assert set(corrected.biases) == set(layers(plain.graph))
    assert noise(corrected) < 0.9 * noise(plain)


@pytest.mark.parametrize("stage", [QUICK, reconstruct(), BiasCorrection(data=DATA)])
def test_a_retrained_network_is_refused(ctx, digits_inputs, stage):
    inputs = calibrated(ctx, digits_inputs)
    quantized = inputs[QuantizedModel].quantized
    trained = {key: p + 0.01 for key, p in quantized.graph.params.items()}
    model = QuantizedModel(quantized=replace(quantized, graph=quantized.graph.with_params(trained)))
    with pytest.raises(PipelineError, match=r"trained further after its calibration.*training=post_training"):
        stage.run(ctx, {**inputs, QuantizedModel: model, Observations: inputs[Observations]})


def test_blocks_of_no_layers_are_refused():
    with pytest.raises(ValueError, match="largest_block=0: must be at least 1, layer by layer"):
        reconstruct(largest_block=0)


@pytest.mark.parametrize("cls", [AdaRound, BiasCorrection])
def test_wrong_values_are_refused(cls):
    with pytest.raises(ValueError, match="batch_size=0: must be at least 1"):
        cls(data=DATA, batch_size=0)
    with pytest.raises(ValueError, match="memory=0: must be at least 1 MiB"):
        cls(data=DATA, memory=0)
