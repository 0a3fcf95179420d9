"""A program is found in a run's folder or a foreign file, with what is said of it."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import onnx
import pytest

from pipeline.errors import PipelineError
from stages.artifacts import IntegerProgram
from stages.artifacts.deployed import read_deployed
from stages.data.description import Description
from stages.exporters.onnx_qdq import OnnxQdq
from stages.graph.lower import lower
from tests.stages.reporting.conftest import make_run

SAID = Description(
    shape=(4, 5, 5), mean=(0.5,), std=(0.25,), classes=("Kälte", "b"), image={"size": [5, 5]}, task="binary"
)


@pytest.fixture
def program():
    return IntegerProgram(program=lower(make_run(["conv"]).model.quantized, "float"))


@pytest.fixture
def importing(monkeypatch, program):
    """An importer that gives `program` for each file."""
    module = ModuleType("stages.importers")
    module.__spec__ = ModuleSpec("stages.importers", None)
    module.load_program = lambda path: program
    monkeypatch.setitem(sys.modules, "stages.importers", module)


def test_a_folder_says_what_it_says(program, tmp_path):
    program.save(tmp_path)
    assert read_deployed(tmp_path)[1] is None
    SAID.save(tmp_path)
    read, said = read_deployed(tmp_path)
    assert said == SAID and read.program.requantize == "float"


def test_another_description_takes_its_place(program, tmp_path):
    program.save(tmp_path)
    SAID.save(tmp_path)
    (tmp_path / "other").mkdir()
    Description(shape=(4, 5, 5)).save(tmp_path / "other")
    assert read_deployed(tmp_path, tmp_path / "other")[1] == Description(shape=(4, 5, 5))
    with pytest.raises(PipelineError, match=r"no preprocessing\.json there\. Remedy"):
        read_deployed(tmp_path, tmp_path / "nowhere")


def test_a_file_that_we_exported_says_it_in_its_metadata(program, tmp_path, importing):
    path = OnnxQdq().write(program.program, SAID, tmp_path)
    assert read_deployed(path)[1] == SAID


def test_a_tflite_files_metadata_is_read_too(program, tmp_path, importing):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.buffers, model.metadata = [schema.BufferT()], []
    for name, text in SAID.metadata().items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = list(text.encode())
        entry.name, entry.buffer = name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "model.tflite").write_bytes(bytes(builder.Output()))
    assert read_deployed(tmp_path / "model.tflite")[1] == SAID


@pytest.mark.parametrize(
    "metadata",
    [{}, {"shape": "[1, 8, 8]", "mean": "[]", "std": "[]"}, {"shape": "large"}, {"author": "somebody"}],
)
def test_metadata_of_somebody_else_says_nothing_and_a_file_beside_does(
    program, tmp_path, importing, metadata
):
    path = OnnxQdq().write(program.program, None, tmp_path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    assert read_deployed(path)[1] is None
    SAID.save(tmp_path)
    assert read_deployed(path)[1] == SAID


def test_a_file_that_cannot_be_parsed_has_no_metadata(tmp_path, importing):
    (tmp_path / "a.tflite").write_bytes(b"\x00" * 7)
    assert read_deployed(tmp_path / "a.tflite")[1] is None


def test_what_is_not_there_is_named(tmp_path):
    for name in ("a.tflite", "a.onnx", "folder"):
        with pytest.raises(PipelineError, match=name):
            read_deployed(tmp_path / name)
