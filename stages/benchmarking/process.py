"""Competitors, here or in processes of their own, which stay alive and answer one request at a time."""

from __future__ import annotations

import json
import os
import pickle
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from stages.benchmarking.competitor import Case, Competitor
from stages.measuring.timing import Timer, timer

PATIENCE_SECONDS = 900.0
"""Longest time to prepare, or to answer: compilers take minutes for large networks."""


class FailedError(RuntimeError):
    """A competitor could not take part; the text says why."""


@contextmanager
def started(competitor: Competitor, case: Case) -> Iterator[Timer]:
    """Prepare a competitor, and give its timer; its process ends with the context.

    Raises:
        FailedError: it could not be prepared, or not run once.
    """
    if competitor.isolated:
        with _child("serve", competitor, case) as process:
            _answer(process)

            def remote(calls: int) -> float:
                _pipe(process.stdin).write(f"{calls}\n".encode())
                _pipe(process.stdin).flush()
                return float(_answer(process))

            yield remote
        return
    try:
        local = timer(competitor.prepare(case))
        local(1)
    except Exception as error:  # whatever a competitor raises is its reason
        raise FailedError(reason(error)) from error
    yield local


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Peak resident memory of a process in bytes: before the work, and after it.

    A peak never falls, so work that fits into what preparing took adds nothing.
    """

    before: int
    after: int

    @property
    def growth(self) -> int:
        """What the work added."""
        return self.after - self.before


def peak_memory(competitor: Competitor, case: Case) -> Peak:
    """Do the work once in a new process. Raises `FailedError`."""
    with _child("measure", competitor, case) as process:
        before, after = _answer(process)
        return Peak(before=int(before), after=int(after))


def reason(error: BaseException) -> str:
    """An error's type and first line, as reported where a competitor has no timing."""
    if isinstance(error, FailedError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


@contextmanager
def _child(
    task: Literal["serve", "measure"], competitor: Competitor, case: Case
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of `stages.benchmarking.child`. It gets its work by a file, and so shares no memory."""
    handle, name = tempfile.mkstemp(suffix=".pickle", dir=case.scratch)
    request = Path(name)
    with os.fdopen(handle, "wb") as file:
        pickle.dump((task, competitor, case), file)
    command = [sys.executable, "-m", "stages.benchmarking.child", str(request)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        yield process
    finally:
        _pipe(process.stdin).close()  # the child reads the end of its input, and ends
        try:
            process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _pipe(process.stdout).close()
        request.unlink(missing_ok=True)


def _answer(process: subprocess.Popen[bytes]) -> Any:
    """The next line of the child: ``{"value": …}`` or ``{"error": …}``."""
    pipe = _pipe(process.stdout)
    ready, _, _ = select.select([pipe], [], [], PATIENCE_SECONDS)
    if not ready:
        process.kill()
        raise FailedError(f"no answer within {PATIENCE_SECONDS:.0f} s")
    line = pipe.readline()
    if not line:
        raise FailedError(f"its process ended with status {process.wait()} and without an answer")
    answer = json.loads(line)
    if "error" in answer:
        raise FailedError(answer["error"])
    return answer["value"]


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without pipes")
    return stream
