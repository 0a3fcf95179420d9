"""What a run shows on the terminal: progress while a stage works, a line a stage, a closing table."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

log = logging.getLogger(__name__)

LINE_SECONDS = 30.0


class Advance(Protocol):
    """Moves a progress bar on by `n`; `info` shows beside it (``advance(loss=0.3)``)."""

    def __call__(self, n: int = 1, **info: object) -> None:
        """Count `n` more steps as done."""


class Lines:
    """How far long work is, in a line now and then: for logs, and for terminals that are none.

    Args:
        description: what is done.
        total: its steps; None where the number is unknown.
        stream: gets the lines beside the log; None for none.
        every: seconds between two lines, and before the first; None for half a minute.
    """

    def __init__(
        self, description: str, total: int | None, stream: TextIO | None, every: float | None = None
    ) -> None:
        self._description, self._total, self._stream = description, total, stream
        self._every = LINE_SECONDS if every is None else every
        self._begin = self._said = time.monotonic()
        self._done = 0
        self._info: dict[str, object] = {}

    def advance(self, n: int = 1, **info: object) -> None:
        """Count `n` more steps as done; says so where it is time to."""
        self._done += n
        self._info |= info
        now = time.monotonic()
        if now - self._said < self._every:
            return
        self._said = now
        line = ", ".join([f"{self._description}: {self._share()}", *self._details(now - self._begin)])
        log.info("%s", line)
        if self._stream is not None:
            print(f"  {line}", file=self._stream, flush=True)

    def _share(self) -> str:
        if not self._total:
            return f"{self._done:,}"
        return f"{self._done:,} of {self._total:,} ({self._done / self._total:.0%})"

    def _details(self, seconds: float) -> Iterator[str]:
        yield from (f"{name} {_short(value)}" for name, value in self._info.items())
        if self._total and self._done:
            yield f"{duration(seconds * (self._total - self._done) / self._done)} left"


class Console:
    """The terminal, or a plain text stream where there is none; `quiet` shows only warnings.

    Progress bars appear in a terminal only, so that a log file holds no control characters. Elsewhere, long
    work says every half minute how far it is, on standard error; the run's log has these lines either way.
    A `prefix` says whose warnings they are.
    """

    def __init__(self, *, quiet: bool = False, rich: RichConsole | None = None, prefix: str = "") -> None:
        self._prefix = prefix
        self._rich = rich or RichConsole(highlight=False)
        self._quiet = quiet

    @contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """A progress bar over `total` steps (None where the number is unknown), gone when it is done."""
        lines = Lines(description, total, None if self._quiet or self._rich.is_terminal else sys.stderr)
        if self._quiet or not self._rich.is_terminal:
            yield lines.advance
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
                lines.advance(n, **info)
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


def duration(seconds: float) -> str:
    """Time in words: ``3 min 20 s``, ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
