"""A benchmark on the console: a table a setting, one for the engine's operators, one for single figures."""

from __future__ import annotations

from pipeline.console import Console
from pipeline.context import RunContext
from stages.benchmarking.plot import plot
from stages.benchmarking.result import Benchmark, Setting


def record(benchmark: Benchmark, ctx: RunContext) -> Benchmark:
    """Show it, and write ``benchmark.json`` and ``benchmark.png`` to the run's directory."""
    show(benchmark, ctx.console)
    benchmark.save(ctx.run_dir)
    plot(benchmark, ctx.run_dir / "benchmark.png")
    return benchmark


def show(benchmark: Benchmark, console: Console) -> None:
    """Print all tables; a competitor that failed stands there with its reason."""
    columns = ("competitor", "median ms", "quartiles", f"over {benchmark.baseline}")
    for setting in benchmark.settings():
        console.table(benchmark.title(setting), columns, _lines(benchmark, setting))
    for name, layers in benchmark.layers.items():
        console.table(
            f"{name}: operators of the engine",
            ("operator", "kind", "ms", "Mop", "of int8 limit"),
            [
                (t.name, t.op, f"{1e3 * t.seconds:.3f}", f"{1e-6 * t.operations:.1f}", f"{t.share:.1%}")
                for t in layers
            ],
        )
    if benchmark.figures:
        figures = [(name, f"{value:.6g}") for name, value in benchmark.figures.items()]
        console.table("figures", ("name", "value"), figures)


def _lines(benchmark: Benchmark, setting: Setting) -> list[tuple[str, str, str, str]]:
    lines = []
    for row, ratio in benchmark.of(setting):
        if row.timing is None:
            lines.append((row.competitor, "failed", "", row.failure))
            continue
        low, high = (1e3 * quartile for quartile in row.timing.quartiles)
        over = "" if ratio is None else f"{ratio:.2f}×"
        lines.append((row.competitor, f"{1e3 * row.timing.median:.2f}", f"{low:.2f} – {high:.2f}", over))
    return lines
