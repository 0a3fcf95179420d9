"""What a run shows on the terminal: progress while a stage works, a line a stage, a closing table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

log = logging.getLogger(__name__)


class Advance(Protocol):
    """Moves a progress bar on by `n`; `info` shows beside it (``advance(loss=0.3)``)."""

    def __call__(self, n: int = 1, **info: object) -> None:
        """Count `n` more steps as done."""


class Console:
    """The terminal, or a plain text stream where there is none; `quiet` shows only warnings.

    Progress bars appear in a terminal only, so that a log file holds no control characters. A `prefix` says
    whose warnings they are.
    """

    def __init__(self, *, quiet: bool = False, rich: RichConsole | None = None, prefix: str = "") -> None:
        self._prefix = prefix
        self._rich = rich or RichConsole(highlight=False)
        self._quiet = quiet

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """A progress bar over `total` steps (None where the number is unknown), gone when it is done."""
        if self._quiet or not self._rich.is_terminal:
            yield _no_advance
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
        )
        with Progress(*columns, console=self._rich, transient=True) as bar:
            task = bar.add_task(f"  {escape(description)}", total=total, info="")

            def advance(n: int = 1, **info: object) -> None:
                text = "  ".join(f"{name} {_short(value)}" for name, value in info.items())
                if info:
                    bar.update(task, advance=n, info=escape(text))
                else:
                    bar.advance(task, n)

            yield advance

    def stage(self, name: str, *, cached: bool, seconds: float) -> None:
        """Say that a stage is done: taken from the store, or computed in `seconds`."""
        log.info("stage %s: %s, %.2f s", name, "cached" if cached else "computed", seconds)
        if not self._quiet:
            state = "[dim]  cached[/dim]" if cached else f"{seconds:6.1f} s"
            self._rich.print(f"  {escape(name):<12} {state}")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table; columns after the first are aligned to the right, as numbers are. No text is cut off."""
        if self._quiet:
            return
        table = Table(title=escape(title), title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(escape(column), justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        self._rich.print(table)

    def say(self, text: str) -> None:
        """A plain line."""
        if not self._quiet:
            self._rich.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """A warning, shown even where the console is quiet, and kept in the run's log."""
        log.warning("%s", text)
        self._rich.print(f"[yellow]{self._prefix}warning:[/yellow] {escape(text)}", soft_wrap=True)


def _no_advance(n: int = 1, **info: object) -> None:
    """Where no progress bar is shown."""


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
