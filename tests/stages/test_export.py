"""The program leaves as an ONNX file, from a run and without one, and gives the run's predictions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest

from pipeline.errors import ConfigError, PipelineError
from pipeline.runner import check_wiring
from pipeline.stage import in_order
from stages.artifacts import IntegerProgram
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.export import Export
from stages.exporters.onnx_graph import operators
from stages.exporters.onnx_qdq import OnnxQdq
from stages.graph.lower import lower
from tests.composed import built
from tests.stages.reporting.conftest import make_run
from tests.stages.test_main_job import run, runs

ROOT = Path(__file__).parents[2]
FORMS = ("onnx_qdq", "onnx_qoperator", "tensorrt")


def export_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.export", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def program():
    return IntegerProgram(program=lower(make_run(["conv"]).model.quantized, "float"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run of the main job with all exports to ONNX, on values of signed levels, which each takes."""
    folder = tmp_path_factory.mktemp("exported")
    run(folder, f"export=[{','.join(FORMS)}]", "quantizer.activation.signed=true", "tracking=none")
    return runs(folder)[0]


@pytest.mark.parametrize("form", FORMS)
def test_onnxruntime_gives_the_runs_top1(exported, form):
    session = onnxruntime.InferenceSession(exported / "export" / form / "model.onnx")
    data = Digits()
    split = data.test()
    x, label = (tensor.numpy() for tensor in next(iter(batches(split, len(split), data))))
    ours = IntegerProgram.load(exported / "program").run(x).argmax(1)
    theirs = session.run(None, {"input": x})[0].argmax(1)
    assert (ours == theirs).mean() >= 0.99  # onnxruntime may round a near-tie otherwise
    recorded = json.loads((exported / "metrics.json").read_text())["integer/top1"]
    assert (ours == label).mean() == pytest.approx(recorded)
    assert abs((theirs == label).mean() - recorded) <= 0.01


@pytest.mark.parametrize("form", FORMS)
def test_the_file_and_the_program_say_how_to_make_the_input(exported, form):
    said = json.loads((exported / "program" / "preprocessing.json").read_text())
    assert (said["shape"], said["mean"], said["std"]) == ([1, 8, 8], [0.3053], [0.376])
    model = onnx.load(exported / "export" / form / "model.onnx")
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata.pop("quantization_pipeline")["requantize"] == "float"  # what the nodes do not say
    assert metadata == {key: value for key, value in said.items() if value is not None}


def test_a_saved_program_leaves_without_a_run_as_the_same_files(exported, tmp_path):
    forms = f"export=[{','.join(FORMS)}]"
    done = export_command(tmp_path, f"program={exported / 'program'}", forms, "to=out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"out/{form}/model.onnx" for form in FORMS]
    for form in FORMS:
        written = (tmp_path / "out" / form / "model.onnx").read_bytes()
        assert written == (exported / "export" / form / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["export=[onnx_qdq]"], "program: missing. Remedy: program=PATH"),
        (["program=p"], "export: names nothing. Remedy: export=[NAME,…], of "),
        (["program=p", "export=[onnx_qdq]"], "program=p:"),
        (["program=p", "export=[tflight]"], "tflight"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_lines(tmp_path, arguments, text):
    done = export_command(tmp_path, *arguments)
    assert done.returncode == 1 and text in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_form_is_named_with_its_operator(program, ctx, monkeypatch):
    first = program.program.ops[0]
    monkeypatch.delitem(operators.OPERATORS, first.op)
    with pytest.raises(PipelineError, match=rf"no form in ONNX for {first.op} \({first.output}\).*Remedy"):
        Export(exporter=OnnxQdq()).run(ctx, {IntegerProgram: program})
    assert not (ctx.run_dir / "export").exists()


def test_a_refusal_is_named_where_that_is_asked_for(program, ctx, monkeypatch):
    first = program.program.ops[0]
    monkeypatch.delitem(operators.OPERATORS, first.op)
    Export(exporter=OnnxQdq(), refusals="named").run(ctx, {IntegerProgram: program})
    folder = ctx.run_dir / "export" / "onnx_qdq"
    assert [path.name for path in folder.iterdir()] == ["refused.txt"]
    assert f"no form in ONNX for {first.op} ({first.output})" in (folder / "refused.txt").read_text()


def test_a_program_of_which_nothing_is_said_is_written_without_metadata(program, ctx):
    Export(exporter=OnnxQdq(batch=2)).run(ctx, {IntegerProgram: program})
    model = onnx.load(ctx.run_dir / "export" / "onnx_qdq" / "model.onnx")
    assert [entry.key for entry in model.metadata_props] == ["quantization_pipeline"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2


def test_a_run_without_a_program_is_refused_before_compute():
    stages = built("backend=simulation", "export=[onnx_qdq]").stages
    with pytest.raises(ConfigError, match="export=onnx_qdq: the run makes no integer program to write"):
        check_wiring(in_order(stages))


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            [],
            r"export=tensorrt: quantizer.activation: levels 0\.\.254 .*Remedy: quantizer=symmetric quantizer",
        ),
        (["quantizer=affine"], r"export=tensorrt: quantizer.activation: a zero point"),
    ],
)
def test_a_quantizer_that_tensorrt_does_not_take_is_refused_before_compute(overrides, text):
    stages = built("export=[tensorrt]", *overrides).stages
    with pytest.raises(ConfigError, match=text):
        check_wiring(in_order(stages))
    check_wiring(in_order(built("export=[tensorrt]", "quantizer.activation.signed=true").stages))


def test_without_onnx_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("stages.exporters.exporter.find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"onnx is not installed\. Remedy: pip install"):
        Export(exporter=OnnxQdq()).check()


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="batch=0: must be at least 1"):
        replace(OnnxQdq(), batch=0)
