"""Whatever forms of the network are there are measured: simulation, integers, a program alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errors import ConfigError, PipelineError
from pipeline.runner import check_wiring
from pipeline.stage import in_order
from stages.artifacts import Baseline, IntegerProgram, Metrics, Observations, QuantizedModel
from stages.backends.base import EXACT
from stages.backends.onednn import OneDNN
from stages.backends.reference import Reference
from stages.baseline import MeasureFloat
from stages.calibrate import Calibrate
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.data.noise import Noise
from stages.evaluate import Evaluate
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.qparams import fake_quantize
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.tasks.regression import Regression
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
    metrics = Evaluate(data=DATA, batch_size=100).run(ctx, {Baseline: baseline, QuantizedModel: model})

    graph = digits_inputs[Observations].graph
    keys = {name: graph[name].params["weight"] for name in quantized.weights}
    rounded = {k: fake_quantize(graph.params[k], quantized.weights[n]) for n, k in keys.items()}
    x, _ = next(batches(DATA.test(), 360, DATA, order=baseline.sample_ids))
    logits = execute(graph.with_params({**graph.params, **rounded}), x)
    assert (metrics.predictions["simulated"] == logits.argmax(1).numpy()).mean() > 0.99
    expected = float((logits.argmax(1).numpy() == baseline.labels).mean())
    assert metrics.values["simulated/top1"] == pytest.approx(expected, abs=0.01)
    assert metrics.values["float/top1"] == float((baseline.outputs.argmax(1) == baseline.labels).mean())
    assert metrics.values["test/samples"] == 360
    assert (metrics.values["simulated/top1"] > 0.9) == (bits == 8)
    assert not any(name.startswith("integer/") for name in metrics.values)


def test_the_backend_simulation_takes_the_place_of_the_integer_stages():
    stages = built("backend=simulation", "quantizer.activation=null").stages
    chosen = in_order(stages)
    check_wiring(chosen)
    names = [stage.name for stage in chosen]
    assert names == ["train", "capture", "baseline", "observe", "calibrate", "evaluate", "speed", "report"]


@pytest.fixture(scope="module")
def model(digits_inputs):
    """The network at 3 bits of activations, so that logits tie."""
    quantizer = WeightsAndActivations(weight=Symmetric(bits=4, signed=True), activation=Symmetric(bits=3))
    calibrate = Calibrate(
        quantizer=quantizer, calibration=Calibration(activation=MinMax()), granularity=PerChannel()
    )
    return calibrate.run(None, digits_inputs)


@pytest.fixture(scope="module")
def program(model):
    return IntegerProgram(program=lower(model.quantized, "float"))


def test_all_forms_are_measured_on_the_baselines_samples(ctx, digits_inputs, model, program):
    baseline = MeasureFloat(data=DATA, samples=150).run(ctx, digits_inputs)
    inputs = {Baseline: baseline, QuantizedModel: model, IntegerProgram: program}
    metrics = Evaluate(data=DATA, backend=Reference(threads=1), batch_size=64).run(ctx, inputs)
    assert metrics.backend == "reference"
    assert metrics.tolerance == EXACT
    assert {name: len(p) for name, p in metrics.predictions.items()} == dict.fromkeys(
        ("labels", "float", "simulated", "integer"), 150
    )
    assert set(metrics.values) == {
        *("float/top5", "simulated/top5", "integer/top5"),
        *("float/top1", "simulated/top1", "integer/top1", "integer/agreement", "integer/tied_top1"),
        *("integer/sqnr_db", "test/samples", "model/float_bytes", "model/integer_bytes", "model/parameters"),
        *("model/float_macs", "model/integer_macs"),
        *("model/compression", "model/file_bytes", "model/file_compression"),
        *("convert/layers", "convert/int16_layers"),
    }
    x, _ = next(batches(DATA.test(), 150, DATA, order=baseline.sample_ids))
    logits = program.run(x.numpy())
    assert metrics.predictions["integer"].tolist() == logits.argmax(1).tolist()
    largest = (logits == logits.max(1, keepdims=True)).sum(1) > 1
    assert largest.any()  # 7 levels for ten classes
    assert metrics.values["integer/tied_top1"] == largest.mean()
    assert metrics.notes[-1] == (
        f"top-1 of {largest.sum()} of 150 samples is tied between classes in integers; the lowest counts"
    )


def test_a_program_alone_is_measured_on_the_same_samples(ctx, digits_inputs, model, program):
    baseline = MeasureFloat(data=DATA, samples=150).run(ctx, digits_inputs)
    stage = Evaluate(data=DATA, backend=Reference(threads=1), samples=150)
    alone = stage.run(ctx, {IntegerProgram: program})
    whole = stage.run(ctx, {Baseline: baseline, QuantizedModel: model, IntegerProgram: program})
    assert alone.predictions["integer"].tolist() == whole.predictions["integer"].tolist()
    assert alone.predictions["labels"].tolist() == whole.predictions["labels"].tolist()
    assert alone.values.items() <= whole.values.items()
    assert {"integer/top1", "integer/tied_top1", "model/integer_bytes"} <= set(alone.values)
    assert alone.values["integer/agreement"] == 1.0  # the simulation is the program's
    assert not {"float/top1", "integer/sqnr_db", "model/compression"} & set(alone.values)


def test_metrics_are_kept(ctx, program, tmp_path):
    metrics = Evaluate(data=DATA, backend=Reference(threads=1)).run(ctx, {IntegerProgram: program})
    metrics.save(tmp_path)
    loaded = Metrics.load(tmp_path)
    assert {name: p.tolist() for name, p in loaded.predictions.items()} == {
        name: p.tolist() for name, p in metrics.predictions.items()
    }
    assert replace(loaded, predictions={}) == replace(metrics, predictions={})


def test_layers_that_all_stay_float_have_no_noise(ctx, digits_inputs):
    """Not even the logits differ, so that there is no ratio: 1.8e308 once stood in the record."""
    quantizer = WeightsAndActivations(weight=Symmetric(signed=True), activation=None, layers={"*": "float"})
    calibrate = Calibrate(
        quantizer=quantizer, calibration=Calibration(activation=MinMax()), granularity=PerChannel()
    )
    inputs = {
        Baseline: MeasureFloat(data=DATA).run(ctx, digits_inputs),
        QuantizedModel: calibrate.run(ctx, digits_inputs),
    }
    metrics = Evaluate(data=DATA).run(ctx, inputs)
    assert metrics.values["simulated/top1"] == metrics.values["float/top1"]
    assert "simulated/sqnr_db" not in metrics.values
    assert metrics.notes == ("backend=simulation: no integers were run; all figures are the simulation's",)


def test_data_of_another_shape_and_a_missing_backend_are_refused(ctx, program):
    wrong = Noise(shape=(3, 8, 8), samples=4)
    with pytest.raises(
        PipelineError, match=r"samples of shape \(3, 8, 8\) and the program takes \(1, 8, 8\)"
    ):
        Evaluate(data=wrong, backend=Reference()).run(ctx, {IntegerProgram: program})
    with pytest.raises(PipelineError, match="backend=simulation runs no integer program; choose backend="):
        Evaluate(data=DATA).run(ctx, {IntegerProgram: program})


def test_a_backend_that_rounds_otherwise_is_named_with_its_tolerance(ctx, model):
    program = IntegerProgram(program=lower(model.quantized, "fixed_point"))
    metrics = Evaluate(data=DATA, backend=OneDNN(threads=1), samples=32).run(ctx, {IntegerProgram: program})
    if metrics.backend == "reference":
        pytest.skip("this CPU has no kernels for onednn")
    assert (metrics.tolerance.off_by, metrics.tolerance.min_agreement) == (1, 0.0)
    assert metrics.notes[-2] == (
        "backend onednn rounds fixed_point in its own way, with fewer than 8 bits: an operator may differ by "
        "a level from the simulation, and no agreement is promised (evaluate.min_agreement demands one)"
    )


def test_training_and_sensitivity_need_quantized_activations():
    with pytest.raises(ConfigError, match=r"training\.finetune.*quantizer\.activation=None"):
        built("training=qat_finetune", "quantizer.activation=null")
    with pytest.raises(ConfigError, match=r"sensitivity.*quantizer\.activation=None"):
        built("mixed_precision=sensitivity", "quantizer.activation=null")


def test_a_loaded_program_is_held_against_the_task(ctx, program):
    stage = Evaluate(data=DATA, backend=Reference(threads=1), task=Regression())
    with pytest.raises(PipelineError, match=r"task=regression: .*output is \(N, 10\), 10 a sample"):
        stage.run(ctx, {IntegerProgram: program})
