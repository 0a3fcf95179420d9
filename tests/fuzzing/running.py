"""Cases in children, a limit on memory and time for each, and a line that repeats what went wrong.

A case is made from its loader, its number and the seed alone. Children run them, so that a crash is seen,
with a clock on each case, so that a hang is seen too.
"""

from __future__ import annotations

import os
import pkgutil
import random
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import tests.fuzzing.loaders

CHUNK = 500
"""Cases a child runs."""

SLOW = 20.0
"""Seconds of computing that no case may take, however busy the machine is."""

FINE = ("refused", "equal", "mistrusted")
"""Refused clearly; read, and right; read, and of an output that proves little: all zeros, or saturated."""

MEMORY = 6 * 2**30
"""Bytes of address space that a child may have."""


def loaders() -> tuple[str, ...]:
    """The names of all loaders."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(tests.fuzzing.loaders.__path__)))


def loader(name: str) -> Any:
    """The module of a loader."""
    return import_module(f"{tests.fuzzing.loaders.__name__}.{name}")


def child(name: str, numbers: range, seed: int, seconds: float, *, limited: bool = True) -> None:
    """Run cases; a line each, before and after it, so that the parent knows which one was the last.

    Args:
        name: of the loader.
        numbers: of the cases.
        seed: of all of them.
        seconds: after which no further case begins.
        limited: whether memory is bounded, which AddressSanitizer does not bear.
    """
    module = loader(name)
    if limited and (memory := getattr(module, "MEMORY", MEMORY)):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    getattr(module, "prepare", lambda: None)()
    end = time.monotonic() + seconds
    for number in numbers:
        if time.monotonic() > end:
            return
        print(number, end=" ", flush=True)
        signal.alarm(6 * int(SLOW))  # ends the child where a case hangs
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = module.case(random.Random(f"{name}/{seed}/{number}"), Path(folder))
            except Exception as error:  # any other error is the finding
                outcome = f"raised {type(error).__name__}: {str(error).splitlines()[:1]}"
        if time.process_time() - start > SLOW:
            outcome = f"slow: {time.process_time() - start:.0f} s, {outcome}"
        signal.alarm(0)
        print(outcome, flush=True)


def run(
    name: str,
    count: int,
    seed: int,
    first: int = 0,
    *,
    seconds: float = float("inf"),
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Run cases of a loader in children, and print the line that repeats each wrong one.

    Args:
        name: of the loader.
        count: how many cases, at most.
        seed: of all of them.
        first: the number of the first.
        seconds: after which no further case begins.
        options: of the command line, beside those, which repeat a case.
        environment: of the children, beside this process's.

    Returns:
        How often each outcome was; all that is not of `FINE` as ``wrong``.
    """
    outcomes: Counter[str] = Counter()
    number, last, end = first, first + count, time.monotonic() + seconds
    command = ["-m", "tests.fuzzing", "--loader", name, *options]
    while number < last and (left := end - time.monotonic()) > 0:
        size = min(CHUNK, last - number)
        given = ["--child", f"--first={number}", f"--count={size}", f"--seed={seed}", f"--seconds={left}"]
        done = subprocess.run(
            [sys.executable, *command, *given],
            capture_output=True,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        lines = [line.partition(" ") for line in done.stdout.splitlines() if line[:1].isdigit()]
        for case, _, outcome in lines:
            if not outcome:
                words = [line for line in done.stderr.splitlines() if "rror" in line]
                outcome = f"killed by {done.returncode}: {' '.join(words[:1])}"
            fine = outcome in FINE
            outcomes[outcome if fine else "wrong"] += 1
            if not fine:
                repeat = shlex.join(
                    ["python", *command, "--seed", str(seed), "--first", case, "--count", "1"]
                )
                print(f"{repeat}  # {outcome}", flush=True)
        if not lines and done.returncode:
            raise RuntimeError(done.stderr)
        if not lines:  # time was over before the first
            break
        number += len(lines)
    return outcomes


def said(error: Any) -> str:
    """``refused``, where an error says something, and not without end."""
    text = str(error)
    return "refused" if text.strip() and len(text) < 5000 else f"unclear: {text[:80]!r}"
