"""Ratios, the best peer and geometric means, against figures worked out by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole

from pipeline.console import Console
from stages.benchmarking.result import Benchmark, Row, Setting
from stages.benchmarking.show import show
from stages.benchmarking.summary import (
    beside,
    geometric_mean,
    means,
    summary_markdown,
    summary_metrics,
    summary_table,
)
from stages.measuring.timing import Timing

A, B, C = (Setting(workload=name, size=1, threads=1) for name in "abc")


def row(setting: Setting, competitor: str, seconds: float | None, **more: bool) -> Row:
    if seconds is None:
        return Row(setting=setting, competitor=competitor, failure="RuntimeError: refuses it")
    return Row(setting=setting, competitor=competitor, timing=Timing(samples=(seconds,)), **more)


BENCHMARK = Benchmark(
    baseline="ours",
    size="batch",
    rows=(
        row(A, "ours", 0.010, peer=False),
        row(A, "ours_again", 0.001, peer=False),
        row(A, "x", 0.020),
        row(A, "y", 0.080),
        row(B, "ours", 0.010, peer=False),
        row(B, "x", None),
        row(B, "y", 0.005),
        row(C, "ours", None),
        row(C, "x", 0.5),
        row(C, "y", 0.5),
    ),
    machine={"processor": "a CPU"},
)


def test_the_best_peer_is_the_fastest_that_took_part_and_never_ours():
    assert [(one.setting, one.best) for one in beside(BENCHMARK)] == [(A, ("x", 2.0)), (B, ("y", 0.5))]


def test_geometric_means_are_over_the_settings_in_which_a_peer_took_part():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    found = means(beside(BENCHMARK))
    assert {peer: (pytest.approx(mean), count) for peer, (mean, count) in found.items()} == {
        "best peer": (1.0, 2),
        "x": (2.0, 1),
        "y": (2.0, 2),
    }


def test_metrics_name_settings_and_peers():
    assert summary_metrics(BENCHMARK) == {
        "a/1/threads1/best_peer/ratio": 2.0,
        "b/1/threads1/best_peer/ratio": 0.5,
        "geometric_mean/best_peer": pytest.approx(1.0),
        "geometric_mean/x": pytest.approx(2.0),
        "geometric_mean/y": pytest.approx(2.0),
    }


def test_the_table_has_a_row_a_network_and_one_of_means():
    columns, rows = summary_table(BENCHMARK)
    assert columns == ["network", "ours ms", "best peer", "x", "y"]
    assert rows == [
        ["a, batch 1", "10.00", "2.00× x", "2.00×", "8.00×"],
        ["b, batch 1", "10.00", "0.50× y", "–", "0.50×"],
        ["geometric mean", "", "1.00×", "2.00×", "2.00×"],
    ]


def test_markdown_says_where_and_who_failed_and_why():
    text = summary_markdown(BENCHMARK)
    assert text.startswith("processor a CPU\n\n| network | ours ms |")
    assert "- x: RuntimeError: refuses it (b 1)" in text
    assert "- ours: RuntimeError: refuses it (c 1)" in text


def test_a_peer_that_is_not_held_is_shown_and_does_not_count():
    rows = (
        row(A, "ours", 0.01, peer=False),
        row(A, "free", 0.005, held=False),
        row(A, "held", 0.03),
        row(B, "ours", 0.01, peer=False),
        row(B, "free", 0.005, held=False),
    )
    benchmark = Benchmark(baseline="ours", size="batch", rows=rows)
    assert [one.best for one in beside(benchmark)] == [("held", pytest.approx(3.0)), None]
    columns, table = summary_table(benchmark)
    assert columns[3:] == ["free (not held)", "held"]
    assert table[1] == ["b, batch 1", "10.00", "–", "0.50×", "–"]
    assert table[2] == ["geometric mean", "", "3.00×", "0.50×", "3.00×"]


def test_without_peers_there_is_no_mean():
    rows = (row(A, "ours", 0.01, peer=False), row(B, "ours", 0.01, peer=False))
    benchmark = Benchmark(baseline="ours", size="batch", rows=rows)
    assert summary_metrics(benchmark) == {}
    assert len(summary_table(benchmark)[1]) == 2


def test_the_console_shows_the_best_peers_of_several_settings():
    stream = io.StringIO()
    show(BENCHMARK, Console(rich=RichConsole(file=stream, width=120)))
    text = stream.getvalue()
    assert "the best peer" in text
    assert "geometric mean" in text
