"""``python -m pipeline.predict`` on the command line: lines of JSON, and nothing else, on standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline.predict import main
from stages.artifacts import IntegerProgram
from stages.data.description import Description
from stages.graph.lower import lower
from stages.tasks.answering import softmax
from tests.quantizing import fused, quantized
from tests.stages.reporting.conftest import make_run

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (4, 5, 5)
BACKENDS = ("reference", "native", "onnxruntime")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A saved program from (4, 5, 5) to (4, 5, 5), and two samples."""
    integers = IntegerProgram(program=lower(make_run(["conv"]).model.quantized, "float"))
    (tmp_path / "program").mkdir()
    integers.save(tmp_path / "program")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def classifier(folder):
    """The same program, whose maps are said to be segmented: four classes, 25 pixels."""
    said = Description(shape=SHAPE, classes=("a", "b", "c", "d"), task="segmentation")
    said.save(folder / "program")
    return folder


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict], str]:
    code = main(["program=program", *arguments])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_backend_answers_what_the_program_gives(folder, capsys, backend):
    code, lines, _ = answered(
        capsys, "input=x.npy", f"backend={backend}", "backend.threads=1", "batch_size=2"
    )
    x = np.load(folder / "x.npy")
    expected = IntegerProgram.load(folder / "program").run(x)
    assert (code, [line["row"] for line in lines]) == (0, [0, 1, 2, 3, 4])
    given = np.array([line["values"] for line in lines], np.float32)
    scale = IntegerProgram.load(folder / "program").program.values["conv"].scale
    assert np.abs(given - expected).max() <= (scale * 1.01 if backend == "onnxruntime" else 0)


def test_the_folder_says_the_task_and_the_names(classifier, capsys):
    code, lines, err = answered(capsys, "input=x.npy")
    assert code == 0 and "outputs mean" not in err
    assert {one["label"] for line in lines for one in line["classes"]} <= {"a", "b", "c", "d"}
    assert all(sum(pixels for _, pixels in line["runs"]) == 25 for line in lines)


def test_task_and_top_are_the_users_to_say(classifier, capsys):
    _, lines, _ = answered(capsys, "input=x.npy", "task=classification", "top=3")
    x = np.load(classifier / "x.npy")
    outputs = IntegerProgram.load(classifier / "program").run(x).reshape(5, -1)
    assert [line["index"] for line in lines] == outputs.argmax(1).tolist()
    assert [len(line["top"]) for line in lines] == [3] * 5
    assert lines[0]["score"] == pytest.approx(softmax(outputs).max(axis=1)[0], rel=1e-5)


def test_without_a_description_the_numbers_are_given_and_that_is_said(folder, capsys):
    _, lines, err = answered(capsys, "input=x.npy")
    assert set(lines[0]) == {"input", "row", "values"}
    assert "note: nothing says what the program's outputs mean; they are given as they are" in err


def test_a_description_may_lie_elsewhere(folder, capsys):
    (folder / "said=so").mkdir()
    Description(shape=SHAPE, task="embedding").save(folder / "said=so")
    _, lines, _ = answered(capsys, "input=x.npy", "preprocessing=said=so/preprocessing.json")
    assert set(lines[0]) == {"input", "row", "vector"}
    code, _, err = answered(capsys, "input=x.npy", "preprocessing=program")
    assert code == 1 and "preprocessing=program: no preprocessing.json there. Remedy" in err


def test_a_task_of_ones_own_answers_with_numbers(folder, capsys):
    Description(shape=SHAPE, task="mine").save(folder / "program")
    _, lines, err = answered(capsys, "input=x.npy")
    assert "values" in lines[0] and "task 'mine' is not the pipeline's own" in err
    code, _, err = answered(capsys, "input=x.npy", "task=mine")
    assert code == 1 and "task=mine: unknown; valid: binary" in err


def test_what_cannot_be_read_ends_with_one_and_the_others_are_answered(folder):
    (folder / "bad.png").write_bytes(b"no image")
    np.save(folder / "nan.npy", np.full(SHAPE, np.nan, np.float32))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.predict", "program=program", "input=[bad.png,x.npy]", "nan.npy"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == ["x.npy"] * 5
    assert "bad.png: is no array" in done.stderr and "nan.npy: holds NaN or infinity" in done.stderr


def test_images_are_refused_one_by_one_where_a_program_takes_none(folder, capsys):
    Path("images").mkdir()
    Image.new("L", (7, 7), 9).save("images/b.png")
    Image.new("L", (7, 7), 200).save("images/a.png")
    code, lines, err = answered(capsys, "input=images")
    assert (code, lines) == (1, [])  # four channels are no image
    assert [line.partition(":")[0] for line in err.splitlines()[1:]] == ["images/a.png", "images/b.png"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["input=x.npy"], "program: missing. Remedy: program=PATH"),
        (["program=program"], "input: missing. Remedy: input=PATH"),
        (["program=nowhere", "input=x.npy"], "program=nowhere: nowhere/program.json"),
        (["program=nowhere.tflite", "input=x.npy"], "program=nowhere.tflite: "),
        (["program=program", "input=x.npy", "backend=simulation"], "backend=simulation runs no integer"),
        (["program=program", "input=x.npy", "top=0"], "predict.top=0: must be at least 1"),
        (["program=program", "input=x.npy", "top=some"], "predict.top"),
        (["program=program", "input=x.npy", "backend=nativ"], "nativ"),
        (["program=program", "input=[a b"], "input=[a b: not read as a list"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_lines(folder, capsys, arguments, text):
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and text in err and "Traceback" not in err


def test_a_task_that_the_outputs_cannot_mean_is_refused_before_an_answer(tmp_path, monkeypatch, capsys):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x = torch.randn(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    program = IntegerProgram(program=lower(quantized(fused(network, (1, 2, 2)), x), "float"))
    (tmp_path / "program").mkdir()
    program.save(tmp_path / "program")
    np.save(tmp_path / "x.npy", x.numpy())
    monkeypatch.chdir(tmp_path)
    assert main(["program=program", "input=x.npy", "task=segmentation"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "task=segmentation: the program's outputs are ('N', 3), which mean no such" in err
