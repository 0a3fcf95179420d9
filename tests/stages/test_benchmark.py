"""The benchmark stages on a network that takes no time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from stages.backends.onednn import OneDNN
from stages.backends.openvino import OpenVino
from stages.backends.reference import Reference
from stages.benchmark_calibration import BenchmarkCalibration
from stages.benchmark_engine import BenchmarkEngine
from stages.benchmark_training import BenchmarkTraining
from stages.benchmarking.calibrating import Calibrating, silent_context
from stages.benchmarking.competition import Competition
from stages.benchmarking.engine import Engine
from stages.benchmarking.onnxruntime_peer import (
    OnnxRuntimeCalibrating,
    OnnxRuntimeFloat,
    OnnxRuntimeStatic,
)
from stages.benchmarking.openvino_peer import OpenVinoFloat
from stages.benchmarking.result import Benchmark
from stages.benchmarking.torch_float import CalibrationForward, Eager
from stages.benchmarking.training import FloatStep, QatStep
from stages.benchmarking.workload import Workload
from stages.data.digits import Digits
from stages.integer.files import write_program
from stages.models.mobilenet_digits import MobileNetDigits
from stages.quant.estimators.lsq import Lsq
from tests.stages.benchmarking.competitors import Refuser
from tests.stages.benchmarking.test_competition import PREPARATION


@pytest.fixture
def competition() -> Competition:
    return Competition(
        workloads={"digits": Workload(model=MobileNetDigits(), data=Digits(), batch_sizes=(3,))},
        competitors={
            "onednn": Engine(backend=OneDNN()),
            "openvino_program": Engine(backend=OpenVino(), levels=True),
            "torch": Eager(),
            "torch_contiguous": Eager(memory_format="contiguous"),
            "onnxruntime_float": OnnxRuntimeFloat(),
            "onnxruntime_int8": OnnxRuntimeStatic(),
            "openvino_float": OpenVinoFloat(),
            "missing": Refuser(),
        },
        baseline="onednn",
        preparation=PREPARATION,
        threads=(1,),
        rounds=1,
        turn_seconds=0.0,
    )


def test_the_engine_beside_its_peers(competition: Competition, tmp_path: Path):
    stage = BenchmarkEngine(competition=competition, layers=OneDNN())
    stage.check()
    benchmark = stage.run(silent_context(tmp_path, seed=0), {})
    failures = {row.competitor: row.failure for row in benchmark.rows if row.failure}
    assert failures == {"missing": "ImportError: No module named 'peer'"}
    assert len(benchmark.rows) == len(competition.competitors)
    (layers,) = benchmark.layers.values()
    assert sum(layer.operations for layer in layers) > 0
    assert benchmark.figures["int8_limit/threads1/operations_per_second"] > 1e9
    assert Benchmark.load(tmp_path) == benchmark
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert document["machine"]["torch"].startswith("2.")


def test_calibration_beside_its_peers(competition: Competition, tmp_path: Path):
    ours = Calibrating(observe=PREPARATION.observe, calibrate=PREPARATION.calibrate)
    competition = replace(
        competition,
        competitors={
            "forward": CalibrationForward(),
            "forward_folded": CalibrationForward(folded=True),
            "minmax": ours,
            "onnxruntime_forward": OnnxRuntimeCalibrating(method=None),
            "onnxruntime_minmax": OnnxRuntimeCalibrating(method="MinMax"),
        },
        baseline="forward",
    )
    stage = BenchmarkCalibration(
        competition=competition, samples=(8,), memory_of="minmax", memory_samples=(8, 16)
    )
    stage.check()
    benchmark = stage.run(silent_context(tmp_path, seed=0), {})
    assert [row.failure for row in benchmark.rows] == [""] * 5
    assert benchmark.figures["kl_search/ours/seconds"] < benchmark.figures["kl_search/onnxruntime/seconds"]
    for samples in (8, 16):
        assert benchmark.figures[f"peak_memory/digits/{samples}/bytes"] > 50e6
    with pytest.raises(ConfigError, match="memory_of=minmx: did you mean 'minmax'"):
        replace(stage, memory_of="minmx").check()


def test_a_training_step_beside_the_float_one(competition: Competition, tmp_path: Path):
    quantizer = PREPARATION.calibrate.quantizer
    competition = replace(
        competition,
        competitors={"float": FloatStep(), "lsq": QatStep(quantizer=quantizer, estimator=Lsq())},
        baseline="float",
    )
    stage = BenchmarkTraining(competition=competition)
    stage.check()
    benchmark = stage.run(silent_context(tmp_path, seed=0), {})
    assert [(row.competitor, row.failure) for row in benchmark.rows] == [("float", ""), ("lsq", "")]
    assert Benchmark.load(tmp_path) == benchmark


def test_an_engine_that_falls_back_does_not_compete(competition: Competition, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("stages.backends.onednn.find_layers", lambda: "no kernels here")
    workload = competition.chosen()["digits"]
    case = PREPARATION.case(workload, seed=0, scratch=tmp_path)
    with pytest.raises(RuntimeError, match="no kernels here; the reference backend runs instead"):
        Engine(backend=OneDNN()).prepare(case)


def test_another_program_competes_on_the_same_input(competition: Competition, tmp_path: Path):
    case = PREPARATION.case(competition.chosen()["digits"], seed=0, scratch=tmp_path)
    other = replace(case.program, values={**case.program.values})
    write_program(other, tmp_path)
    engine = Engine(backend=Reference(), program=str(tmp_path))
    assert (engine.prepare(case)() == Engine(backend=Reference()).prepare(case)()).all()
    value = case.program.values[case.program.input]
    wide = replace(value, shape=(value.shape[0], 9, 9))
    another = replace(case, program=replace(case.program, values={**case.program.values, value.name: wide}))
    with pytest.raises(ValueError, match=r"takes \(1, 8, 8\), the benchmark's network \(1, 9, 9\)"):
        engine.prepare(another)
