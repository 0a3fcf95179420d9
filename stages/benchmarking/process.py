"""Competitors in processes of their own, which stay alive and answer one request at a time."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from stages.benchmarking.competitor import Case, Competitor
from stages.benchmarking.timing import Timer, timer

START_SECONDS = 600.0
"""Longest time to prepare: compilers take minutes for large networks."""


class FailedError(RuntimeError):
    """A competitor could not take part; the text says why."""


@contextmanager
def started(competitor: Competitor, case: Case) -> Iterator[Timer]:
    """Prepare a competitor, here or in a process of its own, and give its timer.

    Raises:
        FailedError: it could not be prepared or run once.
    """
    if not competitor.isolated:
        try:
            seconds = timer(competitor.prepare(case))
            seconds(1)
        except Exception as error:  # whatever a competitor raises is its reason
            raise FailedError(reason(error)) from error
        yield seconds
        return
    with _child(_serve, competitor, case) as connection:
        _answer(connection)

        def remote(calls: int) -> float:
            connection.send(calls)
            return float(_answer(connection))

        yield remote


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Peak resident memory of a process, in bytes: before the work, and after it."""

    before: int
    after: int

    @property
    def growth(self) -> int:
        """What the work added."""
        return self.after - self.before


def peak_memory(competitor: Competitor, case: Case) -> Peak:
    """Do the work once in a new process. Raises `FailedError`."""
    with _child(_measure, competitor, case) as connection:
        before, after = _answer(connection)
        return Peak(before=before, after=after)


def reason(error: BaseException) -> str:
    """The first line of an error, with its type, as it is reported."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


@contextmanager
def _child(target: Any, competitor: Competitor, case: Case) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, competitor, case), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()  # the child reads the end of the stream, and ends
        process.join(timeout=5.0)
        if process.is_alive():
            process.kill()


def _answer(connection: Connection) -> Any:
    try:
        if not connection.poll(START_SECONDS):
            raise FailedError(f"no answer within {START_SECONDS:.0f} s")
        kind, value = connection.recv()
    except EOFError as error:
        raise FailedError("its process ended without an answer (out of memory?)") from error
    if kind == "error":
        raise FailedError(value)
    return value


def _prepared(connection: Connection, competitor: Competitor, case: Case) -> Any:
    import torch

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the process lives
    torch.set_num_threads(case.threads)
    return competitor.prepare(case)


def _serve(connection: Connection, competitor: Competitor, case: Case) -> None:
    """The child's loop: number of calls in, seconds a call out, until the stream ends."""
    try:
        seconds = timer(_prepared(connection, competitor, case))
        seconds(1)
        connection.send(("ready", None))
        while True:
            connection.send(("seconds", seconds(connection.recv())))
    except (EOFError, OSError):
        return
    except Exception as error:  # reported to the parent, which names the competitor
        connection.send(("error", reason(error)))


def _measure(connection: Connection, competitor: Competitor, case: Case) -> None:
    try:
        step = _prepared(connection, competitor, case)
        before = _peak_bytes()
        step()
        connection.send(("bytes", (before, _peak_bytes())))
    except Exception as error:
        connection.send(("error", reason(error)))


def _peak_bytes() -> int:
    """The largest resident set so far. It never falls, so work that fits what was there adds nothing."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
