"""Programs changed at random, loaded and run: ``python -m tests.fuzz_programs --count 10000 --seed 0``.

Whatever a file says, loading gives a valid program or one ``ValueError``; what loads runs on the reference
and on the native engine with equal levels. Cases run in children, so that a crash is seen, and named by the
line that repeats it. A case whose output says little, since all of its levels are one, is *mistrusted*: it
ran, and proves no equality. `tests.test_fuzz_programs` runs a few.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from safetensors.numpy import load_file, save_file

from stages.backends.native import Native
from stages.backends.native_kernels import library
from stages.integer.format import load_program, save_program
from stages.integer.interpreter import Interpreter
from stages.integer.program import Program
from tests import fuzzing
from tests.fuzzing import SLOW
from tests.stages.integer.strategies import programs, random_input

MEMORY = 6 * 2**30
"""Bytes of address space that a child may have."""

NUMBERS = (
    -1,
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    2**15,
    2**20,
    2**28,
    2**31 - 1,
    2**31,
    2**32,
    2**33 + 1,
    2**63,
    10**30,
)
STRANGE = (
    None,
    True,
    False,
    0.5,
    -1.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x",
    "conv2d",
    [],
    [1],
    {},
    {"a": 1},
    [[1, 2]],
)


def bases(count: int = 40) -> list[Program]:
    """Random valid programs, the same ones always."""
    found: list[Program] = []

    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(program=programs(modes=("fixed_point", "fixed_point_single", "float")))
    def collect(program: Program) -> None:
        found.append(program)

    collect()
    return found


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield node, key
        yield from _places(child)


def mutate(document: Any, rng: random.Random) -> None:
    """Change one to three places of a document: numbers, types, structure."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        numbers = [(node, key) for node, key in places if isinstance(node[key], int | float)]
        node, key = rng.choice(numbers if numbers and rng.random() < 0.6 else places)
        kind = rng.random()
        if kind < 0.5:
            near = type(node[key]) is int and rng.random() < 0.6
            node[key] = node[key] + rng.choice((-2, -1, 1, 2, 7)) if near else rng.choice(NUMBERS)
        elif kind < 0.7:
            node[key] = copy.deepcopy(rng.choice(STRANGE))
        elif kind < 0.8:
            del node[key]
        elif kind < 0.9:
            other, place = rng.choice(places)
            node[key] = (
                copy.deepcopy(other[place])
                if place in (other if isinstance(other, dict) else range(len(other)))
                else 1
            )
        elif isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
        else:
            node[f"{key}_"] = node[key]


def _shake(path: Path, rng: random.Random) -> None:
    """Change the tensors' file: bytes, its end, or numbers of an array."""
    content = bytearray(path.read_bytes())
    arrays = load_file(path)
    if arrays and rng.random() < 0.5:
        array = arrays[rng.choice(sorted(arrays))]
        if array.size:
            limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else np.finfo(array.dtype)
            array.flat[rng.randrange(array.size)] = rng.choice([limits.min, limits.max, 0, 1])
        save_file(arrays, path)
        return
    for _ in range(rng.choice((1, 4))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content[: rng.randrange(len(content))] if rng.random() < 0.2 else content)


def case(number: int, seed: int, programs: list[Program], folder: Path) -> str:
    """Make and try one case: ``refused``, ``equal``, ``mistrusted``, or what went wrong."""
    rng = random.Random(f"{seed}/{number}")
    save_program(rng.choice(programs), folder)
    path = folder / "program.json"
    if rng.random() < 0.85:
        document = json.loads(path.read_text())
        mutate(document, rng)
        text = json.dumps(document)
        if rng.random() < 0.01:
            text = "[" * 5000 + text + "]" * 5000
        path.write_text(text)
    else:
        _shake(folder / "tensors.safetensors", rng)
    start = time.perf_counter()
    try:
        program = load_program(folder)
    except ValueError as error:
        return "refused" if "\n" not in str(error) else f"more than a line: {error}"
    try:
        q = random_input(program, 2, seed=number)
        reference = Interpreter(program, threads=1)
        native = Native(threads=1).compile(program)
    except ValueError:
        return "refused"  # a sum that int32 does not hold
    expected = reference.run(q)
    if not np.array_equal(expected, native.run(q)):
        return "different levels"
    if time.perf_counter() - start > SLOW:
        return f"slow: {time.perf_counter() - start:.0f} s"
    return "equal" if np.ptp(expected) > 0 else "mistrusted"


def child(first: int, count: int, seed: int, sanitize: bool) -> None:
    """Run cases; a line each, before and after it, so that the parent knows which one was the last."""
    known = bases()
    if sanitize:
        import_module("tests.sanitized")  # compiles another engine
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    library.find_library()  # compiled now, and not in the first case's time
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            print(number, end=" ", flush=True)
            try:
                outcome = case(number, seed, known, Path(folder))
            except Exception as error:  # any other error is the finding
                outcome = f"raised {type(error).__name__}: {str(error).splitlines()[:1]}"
            print(outcome, flush=True)


def run(count: int, seed: int, first: int = 0, *, sanitize: bool = False) -> Counter[str]:
    """Run cases in children; print what is wrong and what repeats it; returns how often each outcome was.

    Args:
        count: how many cases.
        seed: of all of them.
        first: the number of the first.
        sanitize: compile the engine with AddressSanitizer and UBSan.
    """
    environment = {}
    if sanitize:
        runtime = subprocess.run(["c++", "-print-file-name=libasan.so"], capture_output=True, text=True)
        environment = {"LD_PRELOAD": runtime.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    options = ["--sanitize"] * sanitize
    return fuzzing.run("tests.fuzz_programs", options, count, seed, first, environment=environment)


def main() -> int:
    """Parse the command line; 1 where a case is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("count", 1000), ("seed", 0), ("first", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--sanitize", action="store_true", help="the engine with AddressSanitizer and UBSan")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen.first, chosen.count, chosen.seed, chosen.sanitize)
        return 0
    outcomes = run(chosen.count, chosen.seed, chosen.first, sanitize=chosen.sanitize)
    print(", ".join(f"{count} {kind}" for kind, count in outcomes.most_common()))
    return int(outcomes["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
