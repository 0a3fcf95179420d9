"""A paper's table, measured: a column a choice, a row a network, beside the figures that the paper gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.compare.factors import choice
from pipeline.compare.records import Run
from pipeline.compare.wilson import wilson

METRIC = "metric"
"""The key of a column that shows one metric of its own in every line."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table consists of.

    Args:
        title: heading.
        source: where the paper's figures are from: author, year, address, table, data set, measure.
        measure: what the figures are, in words.
        lines: form → its metric; a network has a line for each.
        columns: title → what the column's runs have chosen, by group or config path:
            ``{column: affine_per_layer}``; nothing, for any run. ``metric: …`` shows that one in every
            line, instead of the line's.
        samples: the metric that counts the samples which the figures are shares of, 0..1: each has its 95%
            Wilson interval. None where they are no shares.
        paper: network → its figure in each column; None where the paper has none.
        findings: what the paper says of it in words.
        rows: what tells networks apart, by group or config path; the first one names them.
    """

    title: str
    source: str
    measure: str
    lines: Mapping[str, str]
    columns: Mapping[str, Mapping[str, str]]
    samples: str | None = None
    paper: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    findings: str = ""
    rows: tuple[str, ...] = ("model", "data", "seed")

    def __post_init__(self) -> None:
        if not self.columns or not self.rows or not self.lines:
            raise ValueError("columns, lines, rows: there must be at least one of each")
        for network, figures in self.paper.items():
            if len(figures) != len(self.columns):
                raise ValueError(
                    f"paper.{network}: {len(figures)} figures; must be {len(self.columns)}, one a column, "
                    "null where the paper has none"
                )
            known = [figure for figure in figures if figure is not None]
            if self.samples is not None and not all(0.0 <= figure <= 1.0 for figure in known):
                raise ValueError(f"paper.{network}: must be shares, 0..1, of samples={self.samples}")
            if not all(math.isfinite(figure) for figure in known):
                raise ValueError(f"paper.{network}: must be finite, or null where the paper has none")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure. Of a paper, `value` alone; of a run also its interval, where its samples were counted."""

    value: float
    low: float | None = None
    high: float | None = None
    samples: int | None = None
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row: one network in one form (of `Table.lines`, or ``paper``); None where nothing is known."""

    network: str
    form: str
    cells: tuple[Cell | None, ...]


def measure(table: Table, runs: Sequence[Run]) -> list[Line]:
    """The table's lines: for each network a line a form, then the paper's.

    Of several runs that belong in one cell, the newest finished one counts, else the newest. A form that no
    run has measured has no line.
    """
    networks: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        networks.setdefault(tuple(choice(run, name) for name in table.rows), []).append(run)
    lines = []
    columns = table.columns.values()
    for key, members in networks.items():
        for form, metric in table.lines.items():
            cells = tuple(_cell(column, members, metric, table.samples) for column in columns)
            if any(
                cell is not None and METRIC not in column for cell, column in zip(cells, columns, strict=True)
            ):
                lines.append(Line(network=_name(key, list(networks)), form=form, cells=cells))
    for network, figures in table.paper.items():
        known = tuple(None if figure is None else Cell(value=figure) for figure in figures)
        lines.append(Line(network=network, form="paper", cells=known))
    return lines


def _name(key: tuple[str, ...], keys: Sequence[tuple[str, ...]]) -> str:
    """The first part, and what else tells the networks apart."""
    varying = [part for index, part in enumerate(key) if len({other[index] for other in keys}) > 1]
    return ", ".join(dict.fromkeys([key[0], *varying]))


def _cell(column: Mapping[str, str], runs: Sequence[Run], metric: str, samples: str | None) -> Cell | None:
    """The figure of a column in the line of `metric`."""
    chosen = {name: option for name, option in column.items() if name != METRIC}
    metric = column.get(METRIC, metric)
    found = [
        run
        for run in runs
        if metric in run.metrics and all(choice(run, name) == option for name, option in chosen.items())
    ]
    if not found:
        return None
    run = max(found, key=lambda run: (run.status == "FINISHED", run.started))
    value, counted = run.metrics[metric], round(run.metrics.get(samples or "", 0.0))
    # a diverged run's figure may be no number
    low, high = wilson(value, counted) if counted and 0.0 <= value <= 1.0 else (None, None)
    return Cell(value=value, low=low, high=high, samples=counted or None, run=run.id)
