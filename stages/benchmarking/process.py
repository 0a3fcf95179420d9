"""Competitors, here or in processes of their own, which stay alive and answer one request at a time."""

from __future__ import annotations

import json
import os
import pickle
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from stages.benchmarking.agreement import correlation
from stages.benchmarking.competitor import Case, Competitor, check_packages, is_compared
from stages.benchmarking.holding import held_environment
from stages.measuring.timing import Timer, timer

PATIENCE_SECONDS = 900.0
"""Longest time to prepare, or to answer: compilers take minutes for large networks."""


class FailedError(RuntimeError):
    """A competitor could not take part; the text says why."""


@dataclass(frozen=True)
class Ready:
    """A competitor that has run once: seconds a call, and what it computed.

    Args:
        timer: times calls.
        agreement: its output's correlation with the float network's; None where nothing was compared.
    """

    timer: Timer
    agreement: float | None = None

    def __call__(self, calls: int) -> float:
        """Seconds a call."""
        return self.timer(calls)


@contextmanager
def started(competitor: Competitor, case: Case) -> Iterator[Ready]:
    """Prepare a competitor, run it once, and give its timer; its process ends with the context.

    All have processes of their own where they are held to an instruction set, by the variables of `holding`.

    Raises:
        FailedError: it could not be prepared, or not run once.
    """
    try:
        check_packages(competitor)
    except ImportError as error:
        raise FailedError(reason(error)) from error
    case = case if is_compared(competitor) else replace(case, expected=None)
    if competitor.isolated or case.isa is not None:
        with _child("serve", competitor, case) as process:
            agreement = _answer(process)

            def remote(calls: int) -> float:
                _pipe(process.stdin).write(f"{calls}\n".encode())
                _pipe(process.stdin).flush()
                return float(_answer(process))

            yield Ready(remote, agreement)
        return
    try:
        step = competitor.prepare(case)
        ready = Ready(timer(step, case.clock), correlation(step(), case.expected))
    except Exception as error:  # whatever a competitor raises is its reason
        raise FailedError(reason(error)) from error
    yield ready


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
    """An error's type and first line that says what, as reported where a competitor has no timing."""
    if isinstance(error, FailedError):
        return str(error)
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception from ")] or lines  # OpenVINO's places
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
    environment: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **held_environment(case.isa),
    }
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
