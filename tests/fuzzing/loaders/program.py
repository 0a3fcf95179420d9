"""An integer program: its JSON or its tensors change; what loads runs alike on reference and native."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from safetensors.numpy import load_file, save_file

from stages.backends.native import Native
from stages.backends.native_kernels import library
from stages.backends.native_kernels.segments import parts
from stages.integer.format import load_program, save_program
from stages.integer.interpreter import Interpreter
from stages.integer.program import Program
from tests.fuzzing.changes import mutate, telling
from tests.stages.backends.native_kernels.walk import walk_parts
from tests.stages.integer.strategies import programs, random_input

CASES = 600


def prepare() -> None:
    """Compile the engine now, and not in the first case's time."""
    library.find_library()


@cache
def bases(count: int = 40) -> tuple[Program, ...]:
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
    return tuple(found)


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    save_program(rng.choice(bases()), folder)
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
    try:
        program = load_program(folder)
    except ValueError as error:
        return "refused" if "\n" not in str(error) else f"more than a line: {error}"
    return runs_alike(program, rng)


def runs_alike(program: Program, rng: random.Random) -> str:
    """Whether reference and native give equal levels of a program that was loaded."""
    try:
        q = random_input(program, 2, seed=rng.randrange(2**31))
        reference = Interpreter(program, threads=1)
        walk_parts(parts(program, keep=False), program)
        native = Native(threads=1).compile(program)
    except ValueError:
        return "refused"  # a sum that int32 does not hold
    expected = reference.run(q)
    if not np.array_equal(expected, native.run(q)):
        return "different levels"
    return "equal" if telling(expected, program.values[program.output]) else "mistrusted"


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
