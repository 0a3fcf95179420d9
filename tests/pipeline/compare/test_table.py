"""A paper's table: which run is in which cell, with what interval, and how it reads."""

from __future__ import annotations

import csv
import io

import pytest

from pipeline.compare.table import Cell, Table, measure
from pipeline.compare.table_text import caption, comma_separated, grid, markdown
from pipeline.compare.wilson import wilson

SOURCE = "Someone 2018, table 1"
COLUMNS = {
    "float": {"metric": "float/top1"},
    "per tensor": {"granularity": "per_tensor"},
    "4 bits": {"granularity": "per_channel", "quantizer.weight.bits": "4"},
}
SHARES = {
    "source": SOURCE,
    "measure": "Top-1",
    "lines": {"integer": "integer/top1", "simulated": "simulated/top1"},
    "samples": "test/samples",
}
TABLE = Table(title="A table", columns=COLUMNS, paper={"Net 1.0": (0.75, 0.1, None)}, **SHARES)


@pytest.fixture
def run(make):
    """Makes a run of the choices, whose figures are given."""

    def made(index, granularity, bits="8", **metrics):
        options = {"granularity": granularity, "quantizer.weight.bits": bits}
        changes = {key: metrics.pop(key) for key in ("status", "started", "tags") if key in metrics}
        template = make(index, options)
        figures = {name.replace("_", "/", 1): value for name, value in metrics.items()}
        tags = {**template.tags, **changes.pop("tags", {})}
        return make(index, options, tags=tags, metrics={"float/top1": 0.9, **figures}, **changes)

    return made


def lines(table, *runs):
    return {(line.network, line.form): line.cells for line in measure(table, runs)}


def test_each_column_shows_the_run_that_has_chosen_it(run):
    found = lines(
        TABLE,
        run(0, "per_tensor", integer_top1=0.1, simulated_top1=0.2, test_samples=360.0),
        run(1, "per_channel", "4", integer_top1=0.5, simulated_top1=0.6),
        run(2, "per_channel", "8", integer_top1=0.8, simulated_top1=0.8),
    )
    assert list(found) == [
        ("mobilenet_digits", "integer"),
        ("mobilenet_digits", "simulated"),
        ("Net 1.0", "paper"),
    ]
    assert [c.value for c in found["mobilenet_digits", "integer"]] == [0.9, 0.1, 0.5]
    assert [c.value for c in found["mobilenet_digits", "simulated"]] == [0.9, 0.2, 0.6]
    assert found["Net 1.0", "paper"] == (Cell(value=0.75), Cell(value=0.1), None)


def test_an_interval_is_wilsons_where_the_samples_were_counted(run):
    found = lines(
        TABLE,
        run(0, "per_tensor", integer_top1=0.25, test_samples=360.0),
        run(1, "per_channel", "4", integer_top1=0.5),
    )["mobilenet_digits", "integer"]
    assert (found[1].low, found[1].high, found[1].samples) == (*wilson(0.25, 360), 360)
    assert (found[2].low, found[2].high, found[2].samples) == (None, None, None)


def test_a_form_that_no_run_measured_has_no_line(run):
    found = lines(TABLE, run(0, "per_tensor", simulated_top1=0.2))
    assert list(found) == [("mobilenet_digits", "simulated"), ("Net 1.0", "paper")]
    assert found["mobilenet_digits", "simulated"][2] is None


def test_of_several_runs_the_newest_finished_one_counts(run):
    found = lines(
        TABLE,
        run(0, "per_tensor", integer_top1=0.1, started=1.0),
        run(1, "per_tensor", integer_top1=0.2, started=2.0),
        run(2, "per_tensor", integer_top1=0.3, started=3.0, status="FAILED"),
        run(3, "per_channel", "4", integer_top1=0.4, started=4.0, status="FAILED"),
    )["mobilenet_digits", "integer"]
    assert [cell.value for cell in found[1:]] == [0.2, 0.4]


def test_networks_have_lines_of_their_own_named_by_what_tells_them_apart(run):
    found = lines(
        TABLE,
        run(0, "per_tensor", integer_top1=0.1),
        run(1, "per_tensor", integer_top1=0.2, tags={"seed": "7"}),
        run(2, "per_tensor", integer_top1=0.3, tags={"model": "resnet20"}),
    )
    measured = {network: cells[1].value for (network, form), cells in found.items() if form == "integer"}
    assert measured == {"mobilenet_digits, 0": 0.1, "mobilenet_digits, 7": 0.2, "resnet20, 0": 0.3}


def test_a_float_column_can_be_that_of_certain_runs(run):
    columns = {
        "further": {"metric": "float/top1", "granularity": "per_channel"},
        "q": {"granularity": "per_tensor"},
    }
    table = Table(title="T", columns=columns, **SHARES)
    found = lines(
        table,
        run(0, "per_tensor", integer_top1=0.1),
        run(1, "per_channel", integer_top1=0.2, float_top1=0.95),
    )
    assert [cell.value for cell in found["mobilenet_digits", "integer"]] == [0.95, 0.1]


def test_the_text_has_what_was_measured_beside_the_paper(run):
    runs = [run(0, "per_tensor", integer_top1=0.25, test_samples=360.0)]
    table = Table(title="A | table", columns=COLUMNS, paper=TABLE.paper, findings="a collapse", **SHARES)
    measured = measure(table, runs)
    low, high = (f"{end:.3f}".removeprefix("0") for end in wilson(0.25, 360))
    headings, rows = grid(table, measured)
    assert headings == ["network", *COLUMNS]
    assert rows[0][0] == "mobilenet_digits\ninteger"
    assert rows[0][2:] == [f".250\n{low}–{high}", "–"]
    assert rows[1] == ["Net 1.0\npaper", ".75", ".1", "–"]
    assert caption(table, measured) == (
        f"Top-1 with 95% Wilson intervals on 360 test samples. Paper: {SOURCE}. Found there: a collapse."
    )
    page = markdown(table, measured).splitlines()
    assert page[0] == "## A | table" and page[2] == "| network | float | per tensor | 4 bits |"
    assert page[3] == "| --- | ---: | ---: | ---: |"
    assert {line.count("|") for line in page[2:6]} == {5}


def test_the_csv_has_full_precision_and_the_run(run):
    runs = [run(0, "per_tensor", integer_top1=1 / 3, test_samples=360.0)]
    rows = list(csv.DictReader(io.StringIO(comma_separated(TABLE, measure(TABLE, runs)))))
    measured = next(row for row in rows if row["column"] == "per tensor" and row["form"] == "integer")
    assert float(measured["value"]) == 1 / 3 and measured["run"] == runs[0].id
    assert [float(measured[end]) for end in ("low", "high")] == list(wilson(1 / 3, 360))
    assert [row["value"] for row in rows if row["form"] == "paper"] == ["0.75", "0.1"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"columns": {}}, "columns, lines, rows: there must be at least one of each"),
        ({"lines": {}}, "columns, lines, rows: there must be at least one of each"),
        (
            {"samples": None, "paper": {"Net": (0.5, float("inf"), None)}},
            r"paper\.Net: must be finite, or null",
        ),
        ({"paper": {"Net": (0.5,)}}, r"paper\.Net: 1 figures; must be 3, one a column"),
        (
            {"paper": {"Net": (0.5, 70.9, None)}},
            r"paper\.Net: must be shares, 0\.\.1, of samples=test/samples",
        ),
    ],
)
def test_a_definition_that_cannot_be_drawn_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        Table(**{"title": "T", "columns": COLUMNS, **SHARES, **changes})


def test_what_is_no_share_has_no_interval_and_no_bound(run):
    table = Table(
        title="Errors",
        source=SOURCE,
        measure="RMSE",
        lines={"integer": "integer/rmse"},
        columns={"float": {"metric": "float/rmse"}, "per tensor": {"granularity": "per_tensor"}},
        paper={"Net 1.0": (12.5, None)},
    )
    runs = [run(0, "per_tensor", integer_rmse=0.1234567, float_rmse=31.0, test_samples=360.0)]
    measured = measure(table, runs)
    assert [(c.value, c.low, c.samples) for c in measured[0].cells] == [
        (31.0, None, None),
        (0.1234567, None, None),
    ]
    assert grid(table, measured)[1] == [
        ["mobilenet_digits\ninteger", "31", "0.1235"],
        ["Net 1.0\npaper", "12.5", "–"],
    ]
    assert caption(table, measured) == f"RMSE. Paper: {SOURCE}."
