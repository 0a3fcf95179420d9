"""Runtimes beside our integers in a run: figures, files, report; what is missing is refused or named."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from pipeline.errors import ConfigError, PipelineError
from pipeline.runner import check_wiring
from pipeline.stage import in_order
from stages.artifacts import IntegerProgram, RuntimeComparison
from stages.backends.onnxruntime import OnnxRuntime
from stages.backends.reference import Reference
from stages.data.digits import Digits
from stages.graph.calibrate import calibrate
from stages.graph.lower import lower
from stages.quant.calibrators.base import Calibration
from stages.runtimes import CompareRuntimes
from tests.composed import built
from tests.stages.test_main_job import metrics, run, runs


@dataclass(frozen=True, kw_only=True)
class Missing(Reference):
    """A runtime whose package nobody has."""

    name: ClassVar[str] = "missing"
    packages: ClassVar[tuple[str, ...]] = ("no_such_package",)
    export: ClassVar[str] = ""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A run of the main job with two runtimes and an export."""
    folder = tmp_path_factory.mktemp("runtimes")
    done = run(
        folder,
        "export=[onnx_qdq]",
        "runtimes=[onnxruntime,reference]",
        "quantizer=affine",
        "evaluate.runtime_samples=70",
    )
    return runs(folder)[0], done.stdout


def test_a_run_measures_and_records_each_runtime(ran):
    folder, _ = ran
    found = metrics(folder)
    assert found["runtime/reference/agreement"] == found["runtime/reference/equal_share"] == 1.0
    assert found["runtime/reference/max_off_by"] == 0
    assert 0.9 <= found["runtime/onnxruntime/agreement"] <= 1.0
    assert 0.5 <= found["runtime/onnxruntime/top1"] <= 1.0
    compared = RuntimeComparison.load(folder)
    assert compared.samples == 70 and [one.name for one in compared.results] == ["onnxruntime", "reference"]
    size = (folder / "export" / "onnx_qdq" / "model.onnx").stat().st_size
    assert [one.bytes for one in compared.results] == [size, None] and compared.exported == {}
    document = json.loads((folder / "program" / "program.json").read_text())
    assert [layer.name for layer in compared.results[0].layers] == list(document["values"])


def test_the_table_is_printed_and_on_the_page(ran):
    folder, printed = ran
    assert "on other runtimes, 70 samples" in printed and "off by 0/1/more" in printed
    page = (folder / "report.html").read_text()
    assert 'id="runtimes"' in page and "runtimes: off by 0 · 1 · more" in page


@pytest.fixture
def program(digits_inputs):
    from stages.artifacts import FloatModel, Observations

    quantizer = built("quantizer=affine").stages["calibrate"]
    graph = digits_inputs[Observations].graph
    quantized = calibrate(
        graph,
        digits_inputs[Observations].statistics,
        quantizer.quantizer,
        Calibration(activation=quantizer.calibration.activation),
        quantizer.granularity,
    )
    assert FloatModel in digits_inputs
    return IntegerProgram(program=lower(quantized, "float"))


def stage(**runtimes) -> CompareRuntimes:
    return CompareRuntimes(runtimes=runtimes, data=Digits(), backend=Reference(), compared=20)


def test_a_runtime_that_is_not_installed_is_refused_before_compute():
    with pytest.raises(
        PipelineError, match=r"runtimes=mine: backend=missing needs.*'no_such_package'.*pip install"
    ):
        stage(mine=Missing(), reference=Reference()).check()
    stage(reference=Reference()).check()


def test_or_it_is_named_where_that_is_asked_for(program, ctx):
    asked = replace(stage(mine=OnnxRuntime(threads=1)), missing="named")
    asked.check()
    replace(stage(mine=Missing()), missing="named").check()
    (result,) = asked.run(ctx, {IntegerProgram: program}).results
    assert (result.name, result.refused) == ("mine", "")


def test_a_runtime_that_refuses_the_program_is_named_and_the_run_goes_on(program, ctx, monkeypatch):
    def refuse(self, program):
        raise PipelineError("no form for conv2d")

    monkeypatch.setattr(OnnxRuntime, "compile", refuse)
    compared = stage(onnxruntime=OnnxRuntime(), reference=Reference()).run(ctx, {IntegerProgram: program})
    assert [one.refused for one in compared.results] == ["no form for conv2d", ""]
    assert compared.results[1].agreement == 1.0
    assert compared.own["top1"] == compared.results[1].figures["top1"]


def test_exports_that_no_runtime_takes_are_listed(program, ctx):
    for name, size in (("onnx_qdq", 3), ("tensorrt", 7)):
        (ctx.run_dir / "export" / name).mkdir(parents=True)
        (ctx.run_dir / "export" / name / "model.onnx").write_bytes(b"x" * size)
    compared = stage(onnxruntime=OnnxRuntime(threads=1)).run(ctx, {IntegerProgram: program})
    assert compared.results[0].bytes == 3 and compared.exported == {"tensorrt": 7}


def test_a_run_without_a_program_is_refused_before_compute():
    stages = built("backend=simulation", "runtimes=[onnxruntime]").stages
    with pytest.raises(ConfigError, match=r"runtimes=\[onnxruntime\]: the run makes no integer program"):
        check_wiring(in_order(stages))


def test_exports_that_refuse_are_listed_with_their_reason(program, ctx):
    (ctx.run_dir / "export" / "tflite").mkdir(parents=True)
    (ctx.run_dir / "export" / "tflite" / "refused.txt").write_text("export=tflite: no form for softmax\n")
    compared = stage(reference=Reference()).run(ctx, {IntegerProgram: program})
    assert compared.unwritten == {"tflite": "export=tflite: no form for softmax"} and not compared.exported


def test_the_preset_goes_on_without_what_is_missing():
    stages = built("experiment=runtimes").stages
    assert stages["runtimes"].missing == "named" and stages["export"].refusals == "named"
    assert {"onnxruntime", "openvino"} <= set(stages["runtimes"].runtimes)
