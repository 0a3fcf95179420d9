"""The exporter: a program leaves as a .tflite file, which gives its integers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tflite_micro import runtime

from pipeline.errors import PipelineError
from stages.artifacts import IntegerProgram
from stages.backends.reference import Reference
from stages.data.description import Description
from stages.export import Export
from stages.exporters.exporter import Exporter, exporters
from stages.exporters.tflite import Tflite
from stages.graph.lower import lower
from stages.importers.tflite import read_tflite
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Program
from tests.stages.exporters.tflite_file.networks import Read, convolutional
from tests.stages.integer.strategies import random_input
from tests.stages.reporting.conftest import make_run

SHARED = Path(__file__).resolve().parents[4] / "shared" / "models" / "tflite"

PROGRAM = convolutional("tflm")
DESCRIPTION = Description(shape=(3, 8, 8), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), classes=("é", "b"))


def test_the_exporter_is_found_by_its_name():
    (found,) = (exporter for exporter in exporters() if exporter.name == "tflite")
    assert found == Tflite() and isinstance(found, Exporter)


def test_the_file_gives_the_programs_integers_on_tflite_micro(tmp_path):
    path = Tflite().write(PROGRAM, DESCRIPTION, tmp_path)
    assert path == tmp_path / "model.tflite"
    interpreter = runtime.Interpreter.from_file(str(path))
    q = random_input(PROGRAM, 3)
    for image, expected in zip(q, Reference().compile(PROGRAM).run(q), strict=True):
        interpreter.set_input(np.ascontiguousarray(image.transpose(1, 2, 0))[None], 0)
        interpreter.invoke()
        assert interpreter.get_output(0).tolist() == [expected.tolist()]


def test_the_file_says_how_to_make_the_input(tmp_path):
    read = Read.of(Tflite().write(PROGRAM, DESCRIPTION, tmp_path).read_bytes())
    said = {name: json.loads(text) for name, text in read.metadata.items()}
    assert said == {"shape": [3, 8, 8], "mean": [0.5] * 3, "std": [0.25] * 3, "classes": ["é", "b"]}
    assert Read.of(Tflite().write(PROGRAM, None, tmp_path).read_bytes()).metadata == {}


def test_options_reach_the_file(tmp_path):
    read = Read.of(Tflite(batch=4, float_io=True).write(PROGRAM, None, tmp_path).read_bytes())
    assert read.tensor("input").shape.tolist() == [4, 8, 8, 3]
    assert (read.operators[0], read.operators[-1]) == ("QUANTIZE", "DEQUANTIZE")
    with pytest.raises(ValueError, match="batch=0: must be at least 1"):
        Tflite(batch=0)


def test_a_program_in_another_arithmetic_is_brought_into_tflites_form(ctx):
    """Sums beside a layer and averages with scales of their own, of a network as a run makes it."""
    program = lower(make_run(["conv"]).model.quantized, "float")
    assert Tflite().refusals(program) == []
    Export(exporter=Tflite()).run(ctx, {IntegerProgram: IntegerProgram(program=program)})
    read = Read.of((ctx.run_dir / "export" / "tflite" / "model.tflite").read_bytes())
    x, y = (read.graph.tensors[index] for index in (read.graph.inputs[0], read.graph.outputs[0]))
    assert (x.type, y.type) == (9, 9)
    assert "CONV_2D" in read.operators


def test_what_has_no_form_is_refused_by_name(ctx):
    ops = [replace(op, op="layer_norm") if op.output == "a" else op for op in PROGRAM.ops]
    wrong = replace(PROGRAM, ops=tuple(ops))
    (why,) = Tflite().refusals(wrong)
    assert why.startswith("'a' (layer_norm): no operator of TFLite computes it. Remedy: ")
    with pytest.raises(PipelineError, match=r"'a' \(layer_norm\)"):
        Export(exporter=Tflite()).run(ctx, {IntegerProgram: IntegerProgram(program=wrong)})
    assert not (ctx.run_dir / "export").exists()


def test_without_its_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("stages.exporters.exporter.find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"ai_edge_litert is not installed\. Remedy: pip install"):
        Tflite().refusals(PROGRAM)


def same_again(program: Program, folder: Path) -> None:
    """The program is written, read back, and written once more: the same operators, the same file."""
    path = Tflite().write(program, None, folder)
    first, read = path.read_bytes(), read_tflite(path)
    assert [op.op for op in read.ops] == [op.op for op in program.ops]
    q = random_input(program, 2)
    assert Reference().compile(read).run(q).tolist() == Reference().compile(program).run(q).tolist()
    assert Tflite().write(read, None, folder).read_bytes() == first


def test_what_is_written_is_read_back_as_the_same_program(tmp_path):
    same_again(PROGRAM, tmp_path)
    same_again(to_tflm(lower(make_run(["conv"]).model.quantized, "float")), tmp_path)


@pytest.mark.parametrize("name", ["ad01_int8", "conv_fc_mnist_int8", "kws_int8", "person_detect_int8"])
def test_a_foreign_network_is_written_as_it_was_read(name, tmp_path):
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there: foreign networks are data of development, not of the project")
    same_again(read_tflite(path), tmp_path)
