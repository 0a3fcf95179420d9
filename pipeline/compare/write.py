"""From MLflow to the two files."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pipeline.compare.comparison import compare
from pipeline.compare.page import render_csv, render_page
from pipeline.compare.records import read_runs

URI = "sqlite:///outputs/mlflow.db"


def write_comparison(
    out: Path,
    *,
    uri: str = URI,
    experiment: str | None = None,
    sweep: str | None = None,
    condition: str = "",
) -> tuple[Path, int]:
    """Compare runs; returns the page, written beside ``runs.csv`` into `out`, and the number of runs.

    Raises:
        PipelineError: see `read_runs`.
    """
    runs = read_runs(uri, experiment=experiment, sweep=sweep, condition=condition)
    comparison = compare(runs)
    chosen = (uri, experiment and f"experiment {experiment}", sweep and f"sweep {sweep}", condition)
    page = out / "index.html"
    out.mkdir(parents=True, exist_ok=True)
    date = datetime.now().astimezone()
    source = " · ".join(filter(None, chosen))
    page.write_text(render_page(comparison, source=source, date=date), encoding="utf-8")
    (out / "runs.csv").write_text(render_csv(comparison), encoding="utf-8")
    return page, len(runs)
