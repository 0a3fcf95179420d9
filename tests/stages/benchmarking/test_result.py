from __future__ import annotations

import io

import pytest
from rich.console import Console as RichConsole

from pipeline.console import Console
from stages.benchmarking.layers import LayerTime
from stages.benchmarking.plot import plot
from stages.benchmarking.result import Benchmark, Row, Setting
from stages.benchmarking.show import show
from stages.measuring.timing import Timing

ONE = Setting(workload="net", size=64, threads=1)
TWO = Setting(workload="net", size=64, threads=2)


@pytest.fixture
def benchmark() -> Benchmark:
    def row(setting, competitor, *samples):
        return Row(setting=setting, competitor=competitor, timing=Timing(samples=samples))

    return Benchmark(
        baseline="ours",
        size="batch",
        rows=(
            row(ONE, "ours", 0.010, 0.012, 0.011),
            row(ONE, "theirs", 0.022, 0.021, 0.030),
            Row(setting=ONE, competitor="missing", failure="ImportError: No module named 'peer'"),
            Row(setting=TWO, competitor="ours", failure="RuntimeError: worn out"),
            row(TWO, "theirs", 0.5),
        ),
        layers={str(ONE): (LayerTime(name="conv", op="conv2d", operations=200, seconds=0.001, share=0.25),)},
        figures={"kl_search/ours/seconds": 0.004},
        machine={"processor": "a CPU"},
    )


def test_ratios_are_of_medians_and_absent_where_one_failed(benchmark):
    assert [ratio for _, ratio in benchmark.of(ONE)] == [1.0, pytest.approx(2.0), None]
    assert [ratio for _, ratio in benchmark.of(TWO)] == [None, None]


def test_metrics_name_workload_size_threads_and_competitor(benchmark):
    metrics = benchmark.metrics()
    assert metrics["benchmark/net/64/threads1/theirs/seconds"] == 0.022
    assert metrics["benchmark/net/64/threads1/theirs/ratio"] == pytest.approx(2.0)
    assert metrics["benchmark/kl_search/ours/seconds"] == 0.004
    assert "benchmark/net/64/threads2/theirs/ratio" not in metrics
    assert not any("missing" in name for name in metrics)


def test_saving_and_loading_keeps_everything(benchmark, tmp_path):
    benchmark.save(tmp_path)
    assert Benchmark.load(tmp_path) == benchmark


def test_the_console_shows_failures_with_their_reasons(benchmark):
    stream = io.StringIO()
    show(benchmark, Console(rich=RichConsole(file=stream, width=120)))
    text = stream.getvalue()
    assert "net, batch 64, 1 thread" in text
    assert "2.00×" in text
    assert "ImportError: No module named 'peer'" in text
    assert "RuntimeError: worn out" in text
    assert "25.0%" in text


def test_a_plot_is_drawn_for_what_was_timed(benchmark, tmp_path):
    plot(benchmark, tmp_path / "benchmark.svg")
    svg = (tmp_path / "benchmark.svg").read_text()
    assert "theirs" in svg
    assert "missing" not in svg
