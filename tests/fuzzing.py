"""What the fuzzers share: cases in children, a line that repeats each, and changed bytes.

A case is made from its number and the seed alone. Children run them, so that a crash is seen, with a limit on
memory, and a clock on each case, so that a hang is seen too.
"""

from __future__ import annotations

import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

CHUNK = 500
"""Cases a child runs."""

SLOW = 20.0
"""Seconds that no case may take."""

FINE = ("refused", "equal", "mistrusted")

NUMBERS = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)

Case = Callable[[random.Random, Path], str]
"""Make and try one case in an empty folder: `FINE`, or what went wrong."""


def shaken(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four changes: single ones, 32-bit numbers, parts left out, doubled or cut off."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(min(len(found), rng.choice((64, 512, 2**30))) or 1)
        kind = rng.random()
        if kind < 0.4:
            found[place : place + 1] = bytes((rng.randrange(256),))
        elif kind < 0.65:
            width, order = rng.choice((2, 4, 8)), rng.choice(("little", "big"))
            number = rng.choice(NUMBERS) % 2 ** (8 * width)
            found[place : place + width] = number.to_bytes(width, order)
        elif kind < 0.75:
            del found[place : place + rng.choice((1, 4, 64))]
        elif kind < 0.85:
            found[place:place] = found[place : place + rng.choice((1, 4, 64))]
        elif kind < 0.93:
            del found[place:]
        else:
            found[place:place] = rng.randbytes(rng.choice((1, 16)))
    return bytes(found)


def child(cases: Mapping[str, Case], kind: str, first: int, count: int, seed: int, memory: int) -> None:
    """Run cases; a line each, before and after it, so that the parent knows which one was the last."""
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for number in range(first, first + count):
        print(number, end=" ", flush=True)
        signal.alarm(2 * int(SLOW))  # ends the child where a case hangs
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = cases[kind](random.Random(f"{kind}/{seed}/{number}"), Path(folder))
            except Exception as error:  # any other error is the finding
                outcome = f"raised {type(error).__name__}: {str(error).splitlines()[:1]}"
        if time.perf_counter() - start > SLOW:
            outcome = f"slow: {time.perf_counter() - start:.0f} s, {outcome}"
        signal.alarm(0)
        print(outcome, flush=True)


def run(
    module: str,
    options: Sequence[str],
    count: int,
    seed: int,
    first: int = 0,
    *,
    environment: Mapping[str, str] | None = None,
) -> Counter[str]:
    """Run cases of ``python -m MODULE OPTIONS`` in children, and print the line that repeats a wrong one.

    Args:
        module: takes ``--child``, ``--first``, ``--count`` and ``--seed`` beside `options`.
        options: what else repeats a case.
        count: how many cases.
        seed: of all of them.
        first: the number of the first.
        environment: of the children, beside this process's.

    Returns:
        How often each outcome was.
    """
    outcomes: Counter[str] = Counter()
    number, last = first, first + count
    while number < last:
        size = min(CHUNK, last - number)
        given = [*options, f"--first={number}", f"--count={size}", f"--seed={seed}"]
        command = [sys.executable, "-m", module, "--child", *given]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, **(environment or {})}
        )
        lines = [line.partition(" ") for line in done.stdout.splitlines()]
        for name, _, outcome in lines:
            if not outcome:
                words = [line for line in done.stderr.splitlines() if "rror" in line]
                outcome = f"killed by {done.returncode}: {' '.join(words[:1])}"
            fine = outcome in FINE
            outcomes[outcome if fine else "wrong"] += 1
            if not fine:
                repeat = shlex.join(["python", "-m", module, *options, "--first", name, "--count", "1"])
                print(f"{repeat} --seed {seed}  # {outcome}", flush=True)
        if not lines:
            raise RuntimeError(done.stderr)
        number += len(lines)
    return outcomes


def said(error: Any) -> str:
    """``refused``, where an error is clear: its first line says what, and some line what to do."""
    text = str(error)
    return "refused" if text.strip() and len(text) < 5000 else f"unclear: {text[:80]!r}"
