"""The table of runtimes: what each made of the program; and the exports that none of them runs."""

from __future__ import annotations

from collections.abc import Iterator

from stages.artifacts import RuntimeComparison, RuntimeResult
from stages.reporting.summary import shown
from stages.reporting.text import MISSING, count, percent, significant
from stages.tasks.base import Task

OURS = "ours"
"""The row of our own integers."""


def runtime_columns(task: Task, compared: RuntimeComparison) -> tuple[str, ...]:
    """The headings."""
    return (
        "runtime",
        "version",
        task.measures[0].title,
        f"same {compared.decision}",
        "off by 0",
        "by 1",
        "by more",
        "worst layer",
        "ms a sample",
        "bytes",
    )


def runtime_table(task: Task, compared: RuntimeComparison) -> list[tuple[str, ...]]:
    """A row for our integers, one a runtime, and one for each export that none of them takes.

    Cells are in the order of `runtime_columns`; what is not known is a dash. Differences are those of the
    output's levels, except the worst layer's.
    """
    figure = shown(task.measures[0])
    key = task.measures[0].key
    rows = [(OURS, "", figure(compared.own.get(key)), *[MISSING] * 7)]
    for one in compared.results:
        cells = [one.version or MISSING]
        if one.refused:
            cells += [MISSING] * 7
        else:
            cells += [figure(one.figures.get(key)), percent(one.agreement)]
            cells += [percent(share) for share in one.off_by() or ()]
            cells += [_worst(one), significant(one.milliseconds, 3)]
        rows.append((one.name, *cells, count(one.bytes)))
    without = {**compared.exported, **dict.fromkeys(compared.unwritten)}
    rows += ((name, *[MISSING] * 8, count(size)) for name, size in sorted(without.items()))
    return rows


def closing_title(compared: RuntimeComparison) -> str:
    """What the terminal's table is of, with the versions that ran."""
    versions = dict.fromkeys(one.version for one in compared.results if one.version)
    return f"on other runtimes, {compared.samples} samples" + (
        f" ({', '.join(versions)})" if versions else ""
    )


def closing_runtimes(
    task: Task, compared: RuntimeComparison
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows of the table, as narrow as a terminal is."""
    title = ("runtime", task.measures[0].title, f"same {compared.decision}", "off by 0/1/more, %", "bytes")
    rows: list[tuple[str, ...]] = []
    for name, _, figure, same, equal, one, more, _, _, size in runtime_table(task, compared):
        off_by = MISSING if equal == MISSING else f"{equal}/{one}/{more}".replace("%", "")
        rows.append((name, figure, same, off_by, size))
    return title, rows


def runtime_notes(compared: RuntimeComparison) -> list[str]:
    """What the table does not hold: why a runtime gave nothing, what it says of itself, what did not run."""
    return list(_notes(compared))


def _notes(compared: RuntimeComparison) -> Iterator[str]:
    for one in compared.results:
        if one.refused:
            yield f"{one.name} did not run: {one.refused}"
        yield from (f"{one.name}: {note}" for note in one.notes)
    for name in compared.exported:
        yield f"export {name}: written, after its exporter's checks, and run by none of these runtimes"
    yield from (f"export {name} was not written: {why}" for name, why in compared.unwritten.items())


def _worst(one: RuntimeResult) -> str:
    """Name, operator and by how many levels, ``features.2 (conv2d) 3``; a dash where none differs."""
    worst = one.worst
    return MISSING if worst is None else f"{worst.name} ({worst.op}) {worst.largest}"
