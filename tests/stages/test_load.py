"""A saved program is measured without the network that it came from."""

import json

import pytest

from pipeline.errors import PipelineError
from pipeline.runner import check_wiring
from pipeline.stage import in_order
from pipeline.store.keys import identity
from stages.artifacts import IntegerProgram
from stages.graph.lower import lower
from stages.load import Load
from tests.composed import built
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
