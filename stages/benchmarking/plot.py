"""The plot of a benchmark: a panel a setting, a point a competitor, quartiles, a logarithmic axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.benchmarking.result import Benchmark, Setting
from stages.measuring.timing import Timing

OURS, OTHERS = "#0072b2", "#5f6770"
ROW_INCHES, PANEL_INCHES = 0.24, 0.7

TimedRow = tuple[str, Timing, float | None]
"""Competitor, timing, ratio."""


def plot(benchmark: Benchmark, path: Path) -> None:
    """Draw to `path`, whose suffix names the format."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = benchmark.settings()
    tables = [_lines(benchmark, setting) for setting in settings]
    heights = [PANEL_INCHES + ROW_INCHES * max(len(table), 1) for table in tables]
    figure, axes = plt.subplots(
        len(settings),
        1,
        figsize=(8, sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for axis, setting, table in zip(axes[:, 0], settings, tables, strict=True):
        _panel(axis, table, benchmark.baseline)
        axis.set_title(benchmark.title(setting), loc="left", fontsize=10, weight="bold")
    axes[-1, 0].set_xlabel(f"milliseconds, median and quartiles; × over {benchmark.baseline}", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _lines(benchmark: Benchmark, setting: Setting) -> list[TimedRow]:
    """Those that were timed, the fastest first."""
    lines = [(row.competitor, row.timing, ratio) for row, ratio in benchmark.of(setting) if row.timing]
    return sorted(lines, key=lambda line: line[1].median)


def _panel(axis: Any, table: list[TimedRow], baseline: str) -> None:
    for position, (competitor, timing, ratio) in enumerate(table):
        median, (low, high) = 1e3 * timing.median, (1e3 * quartile for quartile in timing.quartiles)
        colour = OURS if competitor == baseline else OTHERS
        axis.plot([low, high], [position, position], color=colour, linewidth=3, alpha=0.45)
        axis.plot(median, position, "o", color=colour, markersize=6)
        text = f"{median:.3g} ms" if median < 1000 else f"{median:,.0f} ms"
        text += "" if ratio is None else f"   {ratio:.2f}×"
        end = (max(median, high), position)
        axis.annotate(text, end, xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_xscale("log")
    for ticks in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        ticks("{x:g}")
    axis.set_yticks(range(len(table)), [competitor for competitor, _, _ in table], fontsize=9)
    axis.set_ylim(len(table) - 0.5, -0.5)
    left, right = axis.get_xlim()
    axis.set_xlim(left, right * (right / left) ** 0.3)
    axis.grid(axis="x", color="0.9")
    axis.tick_params(axis="y", length=0)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
