"""A measured table as text: Markdown for people, CSV for whatever else one wants to do with the figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from pipeline.compare.table import Cell, Line, Table

MISSING = "–"


def grid(table: Table, lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; a network's form and a figure's interval are on a second line."""
    share = table.samples is not None
    rows = [[f"{line.network}\n{line.form}", *(_text(cell, share) for cell in line.cells)] for line in lines]
    return ["network", *table.columns], rows


def caption(table: Table, lines: Sequence[Line]) -> str:
    """What the figures are, where the paper's are from, and what it says of them."""
    samples = sorted({cell.samples for line in lines for cell in line.cells if cell and cell.samples})
    counted = f" on {' or '.join(f'{n:,}' for n in samples)} test samples" if samples else ""
    intervals = "" if table.samples is None else " with 95% Wilson intervals"
    parts = [
        f"{table.measure}{intervals}{counted}.",
        f"Paper: {table.source}.",
        f"Found there: {table.findings}." if table.findings else "",
    ]
    return " ".join(filter(None, parts))


def markdown(table: Table, lines: Sequence[Line]) -> str:
    """The heading, the table, the caption."""
    headings, rows = grid(table, lines)
    text = [_row(headings), _row(["---", *["---:"] * len(table.columns)])]
    text += [_row([cell.replace("\n", "<br>") for cell in row]) for row in rows]
    return "\n".join([f"## {table.title}", "", *text, "", caption(table, lines), ""])


def comma_separated(table: Table, lines: Sequence[Line]) -> str:
    """A row a known cell, in full precision, with the run it is from."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "form", "column", "value", "low", "high", "samples", "run"])
    for line in lines:
        for title, cell in zip(table.columns, line.cells, strict=True):
            if cell is not None:
                values = [cell.value, cell.low, cell.high, cell.samples, cell.run]
                writer.writerow([line.network, line.form, title, *values])
    return text.getvalue()


def _text(cell: Cell | None, share: bool) -> str:
    """As papers write it: three decimals of a share that was measured, four digits of what is no share.

    The paper's own figures are as it gives them.
    """
    if cell is None:
        return MISSING
    if not share:
        return f"{cell.value:.4g}" if cell.run else f"{cell.value:g}"
    if not cell.run:
        return _share(f"{cell.value:g}")
    ends = [_share(f"{end:.3f}") for end in (cell.low, cell.high) if end is not None]
    return "\n".join(filter(None, [_share(f"{cell.value:.3f}"), "–".join(ends)]))


def _share(text: str) -> str:
    """``.709``, without the zero."""
    return text.removeprefix("0") if text.startswith("0.") else text


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
