"""From MLflow to files: the comparison of runs, and the table of a sweep."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pipeline.compare.comparison import compare
from pipeline.compare.figures import Contents
from pipeline.compare.page import render_csv, render_page
from pipeline.compare.records import Run, attach, read_runs
from pipeline.compare.table import Table, measure
from pipeline.compare.table_text import caption, comma_separated, grid, markdown
from pipeline.console import Console

URI = "sqlite:///outputs/mlflow.db"


def write_comparison(
    out: Path,
    contents: Contents,
    *,
    uri: str = URI,
    experiment: str | None = None,
    sweep: str | None = None,
    condition: str = "",
) -> tuple[Path, list[Run]]:
    """Compare runs by the figures of `contents`.

    Returns the page, written beside ``runs.csv`` into `out`, and the runs.

    Raises:
        PipelineError: see `read_runs`.
    """
    runs = read_runs(uri, contents.predictions, experiment=experiment, sweep=sweep, condition=condition)
    comparison = compare(runs, contents)
    chosen = (uri, experiment and f"experiment {experiment}", sweep and f"sweep {sweep}", condition)
    page = out / "index.html"
    out.mkdir(parents=True, exist_ok=True)
    date = datetime.now().astimezone()
    source = " · ".join(filter(None, chosen))
    page.write_text(render_page(comparison, source=source, date=date), encoding="utf-8")
    (out / "runs.csv").write_text(render_csv(comparison), encoding="utf-8")
    return page, runs


def write_table(sweep: Path, table: Table, *, uri: str = URI) -> Path:
    """Print the table of a sweep's runs, write it to the sweep's folder, and add it to the parent run.

    Returns ``table.md``, which has ``table.csv`` beside it.

    Raises:
        PipelineError: see `read_runs`.
    """
    runs = read_runs(uri, sweep=str(sweep))
    lines = measure(table, runs)
    console, file = Console(), sweep / "table.md"
    console.table(table.title, *grid(table, lines))
    console.say(caption(table, lines))
    file.write_text(markdown(table, lines), encoding="utf-8")
    file.with_suffix(".csv").write_text(comma_separated(table, lines), encoding="utf-8")
    for parent in {run.parent for run in runs if run.parent}:
        attach(uri, parent, file, file.with_suffix(".csv"))
    console.say(f"the sweep's table: {file}")
    return file
