"""All forms are timed on the same threads, every time the stage runs."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.tracking.null import Null
from stages.artifacts import FloatModel, IntegerProgram, QuantizedModel
from stages.backends.native import Native
from stages.backends.reference import Reference
from stages.calibrate import Calibrate
from stages.data.digits import Digits
from stages.graph.lower import lower
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.speed import MeasureSpeed

QUICK = {"data": Digits(), "batch_size": 8, "rounds": 3, "seconds": 0.1}
compiled: list[int | None] = []


@dataclass(frozen=True, kw_only=True)
class Noted(Reference):
    """The reference, which notes the threads that it is given."""

    name: ClassVar[str] = "reference"

    def compile(self, program, notes=()):
        compiled.append(self.threads)
        return super().compile(program, notes)


@pytest.fixture(scope="module")
def inputs(digits_inputs):
    quantizer = WeightsAndActivations(weight=Symmetric(signed=True), activation=Symmetric())
    calibrate = Calibrate(
        quantizer=quantizer, calibration=Calibration(activation=MinMax()), granularity=PerChannel()
    )
    model = calibrate.run(None, digits_inputs)
    return {
        FloatModel: digits_inputs[FloatModel],
        QuantizedModel: model,
        IntegerProgram: IntegerProgram(program=lower(model.quantized, "float")),
    }


def test_it_runs_every_time():
    assert MeasureSpeed.cacheable is False


@pytest.mark.parametrize(("given", "used"), [(3, 3), (None, torch.get_num_threads())])
def test_all_forms_run_on_the_same_threads(ctx, inputs, given, used):
    compiled.clear()
    speeds = MeasureSpeed(backend=Noted(threads=given), **QUICK).run(ctx, inputs)
    assert (compiled, speeds.threads) == ([used], used)
    assert list(speeds.forms) == ["float", "simulated", "integer"]
    assert speeds.batch_size <= 8


def test_what_is_there_is_timed(ctx, inputs):
    integers = {IntegerProgram: inputs[IntegerProgram]}
    speeds = MeasureSpeed(backend=Reference(threads=1), **QUICK).run(ctx, integers)
    assert list(speeds.forms) == ["simulated", "integer"]
    del integers[IntegerProgram]
    simulated = {kind: inputs[kind] for kind in (FloatModel, QuantizedModel)}
    assert list(MeasureSpeed(**QUICK).run(ctx, simulated).forms) == ["float", "simulated"]


def test_settings_that_measure_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"speed\.rounds=2: must be at least 3, for quartiles"):
        MeasureSpeed(**QUICK | {"rounds": 2})
    with pytest.raises(ConfigError, match=r"speed\.seconds=0: must be above 0; stages\.speed=null"):
        MeasureSpeed(**QUICK | {"seconds": 0})


@dataclass(frozen=True, kw_only=True)
class Tags(Null):
    """Remembers tags."""

    kept: dict[str, str] = field(default_factory=dict)

    def tags(self, values):
        self.kept.update(values)


def test_it_records_what_native_kernels_are_compiled_for(ctx, inputs):
    tracker = Tags()
    run = replace(ctx, tracker=tracker)
    speeds = MeasureSpeed(backend=Native(threads=1, isa="scalar"), **QUICK).run(run, inputs)
    assert speeds.instruction_set == tracker.kept["backend/instruction_set"] == "scalar"
    assert MeasureSpeed(backend=Reference(threads=1), **QUICK).run(ctx, inputs).instruction_set == ""
