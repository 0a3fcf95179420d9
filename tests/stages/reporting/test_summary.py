"""The closing table says what the run measured."""

import pytest

from stages.reporting.summary import CLOSING_COLUMNS, closing_table
from stages.tasks.classification import Classification


def read(cell: str) -> float | None:
    """A cell as the number it shows."""
    text = cell.replace("−", "-").replace(",", "")
    if text == "–":
        return None
    return round(float(text.rstrip("%")) / 100, 6) if text.endswith("%") else float(text)


def test_numbers_equal_the_metrics(run_of):
    values = run_of(["conv"]).values()
    table = {
        title: [read(cell) for cell in cells]
        for title, *cells in closing_table(values, None, Classification())[1:]
    }
    assert CLOSING_COLUMNS[1:] == ("float", "simulated", "integer")
    assert table["top-1"] == [values[f"{form}/top1"] for form in CLOSING_COLUMNS[1:]]
    assert table["change, points"] == [None, -0.06, -0.09]
    assert table["top-1 as simulated"] == [None, None, values["integer/agreement"]]
    assert table["SQNR of logits, dB"] == [None, None, round(values["integer/sqnr_db"], 1)]
    assert table["images per second, 2 threads"] == [
        values[f"{form}/images_per_second"] for form in CLOSING_COLUMNS[1:]
    ]
    assert table["bytes"] == [values["model/float_bytes"], None, values["model/integer_bytes"]]
    assert table["times smaller"] == [None, None, round(values["model/compression"], 2)]


@pytest.mark.parametrize(("known", "cell"), [(None, "–"), (True, "yes"), (False, "no")])
def test_it_says_whether_integer_kernels_compute_the_network(known, cell):
    assert closing_table({}, known, Classification())[0] == ("integer kernels", "–", "–", cell)


def test_what_was_not_measured_is_a_dash():
    cells = [cell for _, *cells in closing_table({}, None, Classification()) for cell in cells]
    assert set(cells) == {"–"}


def test_a_ratio_without_noise_is_infinite_and_an_unmeasured_one_a_dash():
    def cells(*names):
        rows = {
            title: cells for title, *cells in closing_table(dict.fromkeys(names, 0.5), None, Classification())
        }
        return rows["SQNR of logits, dB"]

    assert cells("float/top1", "simulated/top1", "integer/top1") == ["–", "–", "∞"]
    assert cells("float/top1", "simulated/top1") == ["–", "∞", "–"]
    assert cells("integer/top1") == ["–", "–", "–"]


def test_multiply_accumulates_are_shown_where_there_are_fewer():
    def titles(integer):
        values = {"model/float_macs": 100.0, "model/integer_macs": integer}
        return {title: cells for title, *cells in closing_table(values, None, Classification())}

    assert titles(48.0)["multiply-accumulates"] == ["100", "–", "48"]
    assert "multiply-accumulates" not in titles(100.0)
