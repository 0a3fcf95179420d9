"""The table of runtimes says what each gave, and what gave nothing."""

from __future__ import annotations

from dataclasses import replace

from stages.artifacts import LayerDifference, RuntimeComparison, RuntimeResult
from stages.reporting.runtimes import (
    closing_runtimes,
    closing_title,
    runtime_columns,
    runtime_notes,
    runtime_table,
)
from stages.tasks.classification import Classification
from stages.tasks.regression import Regression
from tests.stages.reporting.test_page import parse, rendered

COMPARED = RuntimeComparison(
    results=(
        RuntimeResult(
            name="onnxruntime",
            version="1.2",
            figures={"top1": 0.5},
            agreement=0.75,
            output={0: 6, -1: 2, 3: 2},
            layers=(LayerDifference(name="one", op="conv2d", differences={0: 3, -1: 1}),),
            milliseconds=0.25,
            export="onnx_qdq",
            bytes=1000,
            notes=("rounds <otherwise>",),
        ),
        RuntimeResult(name="qnn", version="2.7", refused="takes no softmax", bytes=50),
    ),
    own={"top1": 0.6},
    samples=4,
    exported={"tensorrt": 77},
    unwritten={"tflite": "no form for softmax"},
)


def test_the_table_has_ours_each_runtime_and_exports_that_none_runs():
    assert runtime_table(Classification(), COMPARED) == [
        ("ours", "", "60.00%", "–", "–", "–", "–", "–", "–", "–"),
        (
            "onnxruntime",
            "1.2",
            "50.00%",
            "75.00%",
            "60.00%",
            "20.00%",
            "20.00%",
            "one (conv2d) 1",
            "0.250",
            "1,000",
        ),
        ("qnn", "2.7", "–", "–", "–", "–", "–", "–", "–", "50"),
        ("tensorrt", "–", "–", "–", "–", "–", "–", "–", "–", "77"),
        ("tflite", "–", "–", "–", "–", "–", "–", "–", "–", "–"),
    ]
    assert len(runtime_columns(Classification(), COMPARED)) == 10


def test_notes_say_why_there_is_nothing():
    assert runtime_notes(COMPARED) == [
        "onnxruntime: rounds <otherwise>",
        "qnn did not run: takes no softmax",
        "export tensorrt: written, after its exporter's checks, and run by none of these runtimes",
        "export tflite was not written: no form for softmax",
    ]


def test_the_terminals_table_is_narrower():
    columns, rows = closing_runtimes(Classification(), COMPARED)
    assert columns == ("runtime", "top-1", "same top-1", "off by 0/1/more, %", "bytes")
    assert rows[1] == ("onnxruntime", "50.00%", "75.00%", "60.00/20.00/20.00", "1,000")
    assert closing_title(COMPARED) == "on other runtimes, 4 samples (1.2, 2.7)"
    assert rows[2][3] == "–" and rows[3][0] == "tensorrt"


def test_other_tasks_have_their_own_figure():
    compared = replace(COMPARED, own={"rmse": 0.1234}, decision="output")
    assert runtime_columns(Regression(), compared)[2:4] == ("RMSE", "same output")
    assert runtime_table(Regression(), compared)[0][2] == "0.1234"


def test_the_page_has_a_column_a_runtime_and_the_table(run_of):
    run = replace(run_of(["one", "two"]), runtimes=COMPARED)
    page = rendered(run).page
    text = " ".join(" ".join(parse(page).text).split())
    assert "runtimes: off by 0 · 1 · more" in text
    assert "75.00% · 25.00% · 0.00%" in text  # the layer that it shows
    assert "one (conv2d) 1" in text and "qnn did not run: takes no softmax" in text
    assert "rounds <otherwise>" in text  # escaped on the page
    assert run.values()["runtime/onnxruntime/agreement"] == 0.75


def test_a_page_without_runtimes_says_nothing_of_them(run_of):
    assert 'id="runtimes"' not in rendered(run_of(["one"])).page
