"""A saved program is measured without the network that it came from."""

import json

import onnx
import pytest

from pipeline.errors import PipelineError
from pipeline.runner import check_wiring
from pipeline.stage import in_order
from pipeline.store.keys import identity
from stages.artifacts import IntegerProgram
from stages.exporters.onnx_graph.qdq import program_to_onnx
from stages.graph.lower import lower
from stages.importers import load_program
from stages.load import Load
from tests.composed import built
from tests.stages.importers.files import model, saved
from tests.stages.reporting.conftest import make_run


@pytest.fixture
def folder(tmp_path):
    program = IntegerProgram(program=lower(make_run(["conv"]).model.quantized, "float"))
    program.save(tmp_path)
    return tmp_path


def test_it_gives_the_saved_program(ctx, folder):
    loaded = Load(program=str(folder)).run(ctx, {})
    assert loaded.program.values == IntegerProgram.load(folder).program.values


def test_its_key_is_that_of_the_files(folder):
    before = identity(Load(program=str(folder)), 1)
    assert identity(Load(program=str(folder)), 1) == before
    document = json.loads((folder / "program.json").read_text())
    (folder / "program.json").write_text(json.dumps(document | {"requantize": "fixed_point"}))
    assert identity(Load(program=str(folder)), 1) != before


def test_what_is_not_there_or_not_whole_is_refused(ctx, folder):
    with pytest.raises(PipelineError, match=r"program=nowhere: no program\.json there .*; name the program/"):
        Load(program="nowhere").fingerprint()
    (folder / "program.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"program=.*program\.json: not a readable integer program"):
        Load(program=str(folder)).run(ctx, {})


def test_the_experiment_measures_a_program_alone():
    stages = built("experiment=evaluate_program", "program=folder", "data=noise").stages
    chosen = in_order(stages)
    check_wiring(chosen)
    assert [stage.name for stage in chosen] == [
        *("load", "describe", "evaluate", "speed", "parity", "rounding", "verdict", "report", "verify")
    ]
    assert chosen[0].program == "folder"


def onnx_file(folder, *, quantized=True):
    if quantized:
        program = lower(make_run(["conv"]).model.quantized, "float")
        onnx.save(program_to_onnx(program), folder / "net.onnx")
        return folder / "net.onnx"
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    return saved(model([node], ["n", 1, 8, 8]), folder)


def names(*overrides):
    return [stage.name for stage in in_order(built(*overrides).stages)]


def test_a_quantized_file_takes_the_place_of_all_that_would_make_a_program(tmp_path):
    path = onnx_file(tmp_path)
    stages = names("model=onnx", f"model.path={path}", "correction=[equalize,bias]", "training=qat_finetune")
    assert stages == ["load", *names("experiment=evaluate_program", "program=folder")[1:]]


def test_a_float_file_takes_no_stages_place(tmp_path):
    path = onnx_file(tmp_path, quantized=False)
    assert names("model=onnx", f"model.path={path}") == names()


def test_the_imported_program_is_the_files(ctx, tmp_path):
    path = onnx_file(tmp_path)
    (stage, *_) = in_order(built("model=onnx", f"model.path={path}").stages)
    loaded = stage.run(ctx, {}).program
    assert loaded.values == load_program(path).program.values
    assert len(identity(stage, 1)) > 0


def test_data_and_classes_that_are_not_the_files_are_refused(tmp_path):
    path = onnx_file(tmp_path)
    program = load_program(path).program
    shape, outputs = program.values[program.input].shape, program.values[program.output].shape
    (stage, *_) = in_order(built("model=onnx", f"model.path={path}", "data=digits").stages)
    with pytest.raises(
        PipelineError, match=rf"model: takes samples of \[{shape[0]}, .*data's are \[1, 8, 8\]"
    ):
        stage.check()
    noise = [f"data.{name}={[0.5] * shape[0]}" for name in ("mean", "std")] + [f"data.shape={list(shape)}"]
    other = ["data=noise", "data.num_classes=7", *noise]
    (stage, *_) = in_order(built("model=onnx", f"model.path={path}", *other).stages)
    with pytest.raises(PipelineError, match=rf"task=classification: .*{outputs[0]}"):
        stage.check()


def test_a_quantized_file_has_no_float_network_to_train(tmp_path):
    run = built("model=onnx", f"model.path={onnx_file(tmp_path)}", "backend=simulation")
    with pytest.raises(
        PipelineError, match=r"holds integers, and no float network .*\nRemedy: a backend that runs"
    ):
        run.stages["train"].check()
