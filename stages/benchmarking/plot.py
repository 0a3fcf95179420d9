"""The plot of a benchmark: a panel a setting, a bar a competitor, quartiles as whiskers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.benchmarking.result import Benchmark, Row, Setting

OURS, OTHERS = "#0072b2", "#b0b7bf"  # told apart by lightness too


def plot(benchmark: Benchmark, path: Path) -> None:
    """Draw to `path`, whose suffix names the format."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = benchmark.settings()
    tables = [[(row, ratio) for row, ratio in benchmark.of(s) if row.timing is not None] for s in settings]
    heights = [0.6 + 0.24 * max(len(table), 1) for table in tables]
    figure, axes = plt.subplots(
        len(settings), 1, figsize=(8, sum(heights) + 0.3), height_ratios=heights, squeeze=False
    )
    for axis, setting, table in zip(axes[:, 0], settings, tables, strict=True):
        _panel(axis, benchmark, setting, sorted(table, key=lambda item: _median(item[0])))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _median(row: Row) -> float:
    return row.timing.median if row.timing is not None else 0.0


def _panel(axis: Any, benchmark: Benchmark, setting: Setting, table: list[tuple[Row, float | None]]) -> None:
    for position, (row, ratio) in enumerate(table):
        if row.timing is None:
            continue
        median, (low, high) = 1e3 * row.timing.median, (1e3 * q for q in row.timing.quartiles)
        colour = OURS if row.competitor == benchmark.baseline else OTHERS
        axis.barh(position, median, color=colour, height=0.72)
        axis.plot([low, high], [position, position], color="black", linewidth=1)
        text = f"{median:.3g} ms" + ("" if ratio is None else f"   {ratio:.2f}×")
        axis.annotate(
            text, (max(median, high), position), xytext=(4, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(range(len(table)), [row.competitor for row, _ in table])
    axis.invert_yaxis()
    axis.margins(x=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(benchmark.title(setting), loc="left", fontsize=10, weight="bold")
