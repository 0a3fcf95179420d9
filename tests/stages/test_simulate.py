"""Weights alone quantized: the simulation is measured where no integers can run."""

from __future__ import annotations

import pytest
from stages.simulate import Simulate

from pipeline.errors import ConfigError
from pipeline.runner import check_wiring
from stages.artifacts import Baseline, Observations, QuantizedModel
from stages.baseline import MeasureFloat
from stages.calibrate import Calibrate
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.graph.execute import execute
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.qparams import fake_quantize
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from tests.composed import built

DATA = Digits()


@pytest.mark.parametrize("bits", [2, 8])
def test_only_weights_are_rounded(ctx, digits_inputs, bits):
    """The logits are those of the float network with rounded weights, and its own biases."""
    quantizer = WeightsAndActivations(weight=Symmetric(bits=bits, signed=True), activation=None)
    calibrate = Calibrate(
        quantizer=quantizer, calibration=Calibration(activation=MinMax()), granularity=PerChannel()
    )
    model = calibrate.run(ctx, digits_inputs)
    quantized = model.quantized
    assert quantized.activations == {} and quantized.weights
    baseline = MeasureFloat(data=DATA).run(ctx, digits_inputs)
    metrics = Simulate(data=DATA, batch_size=100).run(ctx, {Baseline: baseline, QuantizedModel: model})

    graph = digits_inputs[Observations].graph
    keys = {name: graph[name].params["weight"] for name in quantized.weights}
    rounded = {k: fake_quantize(graph.params[k], quantized.weights[n]) for n, k in keys.items()}
    x, _ = next(batches(DATA.test(), 360, DATA, order=baseline.sample_ids))
    logits = execute(graph.with_params({**graph.params, **rounded}), x)
    assert (metrics.predictions["simulated"] == logits.argmax(1).numpy()).mean() > 0.99
    expected = float((logits.argmax(1).numpy() == baseline.labels).mean())
    assert metrics.values["simulated/top1"] == pytest.approx(expected, abs=0.01)
    assert metrics.values["float/top1"] == float((baseline.logits.argmax(1) == baseline.labels).mean())
    assert metrics.values["test/samples"] == 360
    assert (metrics.values["simulated/top1"] > 0.9) == (bits == 8)
    assert not any(name.startswith("integer/") for name in metrics.values)


def test_the_backend_simulation_takes_the_place_of_the_integer_stages():
    stages = built("backend=simulation", "quantizer.activation=null").stages
    chosen = [stage for stage in stages.values() if stage is not None]
    check_wiring(chosen)
    names = [stage.name for stage in chosen]
    assert names == ["train", "baseline", "observe", "calibrate", "simulate", "report"]
    assert stages["report"].quantizer.integer_kernel is False


def test_training_and_sensitivity_need_quantized_activations():
    with pytest.raises(ConfigError, match=r"training\.finetune.*quantizer\.activation=None"):
        built("training=qat_finetune", "quantizer.activation=null")
    with pytest.raises(ConfigError, match=r"sensitivity.*quantizer\.activation=None"):
        built("mixed_precision=sensitivity", "quantizer.activation=null")
