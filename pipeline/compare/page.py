"""The files: one self-contained page, and a CSV for whatever else one wants to do with the figures."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

SCRIPTS = ("state", "draw", "controls", "table", "scatter", "parallel", "effects", "significance")
"""Parts of the page's script, in the order they follow each other."""


def render_page(comparison: dict[str, Any], *, source: str, date: datetime) -> str:
    """The page. Style, script and data are inline; nothing is loaded from anywhere.

    Args:
        comparison: what `pipeline.compare.comparison.compare` returned.
        source: where the runs were read, as the page says it.
        date: when.
    """
    assets = files("pipeline.compare") / "assets"
    data = comparison | {"source": source, "date": date.isoformat(timespec="minutes")}
    parts = {
        "style": (assets / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
        "data": _json_in_html(data),
    }
    page = (assets / "page.html").read_text(encoding="utf-8")
    head, *pieces = page.split("{{")
    for piece in pieces:
        name, _, rest = piece.partition("}}")
        head += parts[name] + rest
    return head


def render_csv(comparison: dict[str, Any]) -> str:
    """A row a run: how it was run, every figure in full precision, and whether it is on a Pareto front."""
    fronts: dict[str, set[int]] = {}
    for group in comparison["sets"]:
        for key, front in group["fronts"].items():
            fronts.setdefault(key, set()).update(front)
    test_set = {index: group["name"] for group in comparison["sets"] for index in group["runs"]}
    factors, figures = list(comparison["factors"]), [figure["key"] for figure in comparison["figures"]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run", "name", "status", "started", "test set", *factors, *figures]
        + [f"front/{key}" for key in fronts]
        + ["command"]
    )
    for index, run in enumerate(comparison["runs"]):
        started = datetime.fromtimestamp(run["started"], tz=UTC).isoformat(timespec="seconds")
        writer.writerow(
            [run["id"], run["name"], run["status"], started, test_set[index]]
            + [run["options"][name] for name in factors]
            + [run["values"][key] for key in figures]
            + [int(index in front) for front in fronts.values()]
            + [run["command"]]
        )
    return text.getvalue()


def _json_in_html(value: object) -> str:
    """JSON that no HTML parser takes for markup, whatever the names in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
