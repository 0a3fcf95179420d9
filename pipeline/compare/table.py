"""A paper's table, measured: a column a choice, a row a network, beside the figures that the paper gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.compare.factors import choice
from pipeline.compare.records import Run
from pipeline.compare.wilson import wilson
from pipeline.errors import alternatives

FORM = "form"
FORMS = ("float", "quantized")
QUANTIZED = ("integer", "simulated")
"""The two accuracies of a quantized network, a line of the table each."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a table consists of.

    Args:
        title: heading.
        source: where the paper's figures are from: author, year, address, table, data set, measure.
        columns: title → what the column's runs have chosen, by group or config path:
            ``{column: affine_per_layer}``; nothing, for any run. ``form: float`` shows the float network's
            accuracy instead of the quantized one's.
        paper: network → its figure in each column, shares 0..1; None where the paper has none.
        findings: what the paper says of it in words.
        rows: what tells networks apart, by group or config path; the first one names them.
    """

    title: str
    source: str
    columns: Mapping[str, Mapping[str, str]]
    paper: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    findings: str = ""
    rows: tuple[str, ...] = ("model", "data", "seed")

    def __post_init__(self) -> None:
        if not self.columns or not self.rows:
            raise ValueError("columns, rows: there must be at least one of each")
        for title, chosen in self.columns.items():
            if _form(chosen) not in FORMS:
                raise ValueError(f"columns.{title}.form={chosen[FORM]}: {alternatives(chosen[FORM], FORMS)}")
        for network, figures in self.paper.items():
            if len(figures) != len(self.columns):
                raise ValueError(
                    f"paper.{network}: {len(figures)} figures; must be {len(self.columns)}, one a column, "
                    "null where the paper has none"
                )
            if not all(figure is None or 0.0 <= figure <= 1.0 for figure in figures):
                raise ValueError(f"paper.{network}: must be shares, 0..1")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure. Of a paper, `top1` alone; of a run also its interval, where its test samples were counted."""

    top1: float
    low: float | None = None
    high: float | None = None
    samples: int | None = None
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row: one network in one form (``integer``, ``simulated``, ``paper``); None where nothing is known."""

    network: str
    form: str
    cells: tuple[Cell | None, ...]


def measure(table: Table, runs: Sequence[Run]) -> list[Line]:
    """The table's lines: for each network the integers' and the simulation's figures, then the paper's.

    Of several runs that belong in one cell, the newest finished one counts, else the newest. A form that no
    run has measured has no line.
    """
    networks: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        networks.setdefault(tuple(choice(run, name) for name in table.rows), []).append(run)
    lines = []
    columns = table.columns.values()
    for key, members in networks.items():
        for form in QUANTIZED:
            cells = tuple(_cell(column, members, form) for column in columns)
            if any(
                c is not None and _form(column) != "float" for c, column in zip(cells, columns, strict=True)
            ):
                lines.append(Line(network=_name(key, list(networks)), form=form, cells=cells))
    for network, figures in table.paper.items():
        known = tuple(None if figure is None else Cell(top1=figure) for figure in figures)
        lines.append(Line(network=network, form="paper", cells=known))
    return lines


def _form(column: Mapping[str, str]) -> str:
    return column.get(FORM, "quantized")


def _name(key: tuple[str, ...], keys: Sequence[tuple[str, ...]]) -> str:
    """The first part, and what else tells the networks apart."""
    varying = [part for index, part in enumerate(key) if len({other[index] for other in keys}) > 1]
    return ", ".join(dict.fromkeys([key[0], *varying]))


def _cell(column: Mapping[str, str], runs: Sequence[Run], form: str) -> Cell | None:
    """The figure of a column in the line of `form`."""
    chosen = {name: option for name, option in column.items() if name != FORM}
    metric = f"{'float' if _form(column) == 'float' else form}/top1"
    found = [
        run
        for run in runs
        if metric in run.metrics and all(choice(run, name) == option for name, option in chosen.items())
    ]
    if not found:
        return None
    run = max(found, key=lambda run: (run.status == "FINISHED", run.started))
    top1, samples = run.metrics[metric], round(run.metrics.get("test/samples", 0.0))
    low, high = wilson(top1, samples) if samples else (None, None)
    return Cell(top1=top1, low=low, high=high, samples=samples or None, run=run.id)
