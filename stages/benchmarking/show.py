"""A benchmark on the console: a table a setting, one for the engine's operators, one for single figures."""

from __future__ import annotations

from pipeline.console import Console
from pipeline.context import RunContext
from stages.benchmarking.plot import plot
from stages.benchmarking.result import Benchmark, Setting
from stages.benchmarking.summary import beside, means, summary_markdown


def record(benchmark: Benchmark, ctx: RunContext) -> Benchmark:
    """Show it, and write ``benchmark.json``, ``.md`` and ``.png`` to the run's directory."""
    show(benchmark, ctx.console)
    benchmark.save(ctx.run_dir)
    (ctx.run_dir / "benchmark.md").write_text(summary_markdown(benchmark), encoding="utf-8")
    plot(benchmark, ctx.run_dir / "benchmark.png")
    return benchmark


def show(benchmark: Benchmark, console: Console) -> None:
    """Print all tables; a competitor that failed stands there with its reason."""
    columns = ("competitor", "median ms", "quartiles", f"over {benchmark.baseline}", "as float")
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
    _show_summary(benchmark, console)
    if benchmark.figures:
        figures = [(name, f"{value:.6g}") for name, value in benchmark.figures.items()]
        console.table("figures", ("name", "value"), figures)


def _show_summary(benchmark: Benchmark, console: Console) -> None:
    """The best peer of each setting, and each peer's geometric mean; nothing for one setting."""
    settings = beside(benchmark)
    if len(settings) < 2 or not any(one.ratios for one in settings):
        return
    best = [
        (
            benchmark.title(one.setting),
            f"{1e3 * one.ours:.2f}",
            *((one.best[0], f"{one.best[1]:.2f}×") if one.best else ("–", "–")),
        )
        for one in settings
    ]
    console.table("the best peer", ("setting", f"{benchmark.baseline} ms", "best peer", "takes"), best)
    rows = [(peer, f"{mean:.2f}×", str(count)) for peer, (mean, count) in means(settings).items()]
    console.table(f"over {benchmark.baseline}", ("peer", "geometric mean", "settings"), rows)


def _lines(benchmark: Benchmark, setting: Setting) -> list[tuple[str, str, str, str, str]]:
    lines = []
    for row, ratio in benchmark.of(setting):
        if row.timing is None:
            lines.append((row.competitor, "failed", "", row.failure, ""))
            continue
        low, high = (1e3 * quartile for quartile in row.timing.quartiles)
        over = "" if ratio is None else f"{ratio:.2f}×"
        name = row.competitor if row.held else f"{row.competitor} (not held)"
        agreement = "" if row.agreement is None else f"{row.agreement:.4f}"
        lines.append((name, f"{1e3 * row.timing.median:.2f}", f"{low:.2f} – {high:.2f}", over, agreement))
    return lines
