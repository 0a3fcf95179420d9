"""A quantized .tflite file: bytes and words change; what is read runs alike on reference and native."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np

from stages.backends.native_kernels import library
from stages.exporters.tflite_file.model import program_to_tflite
from stages.importers import read_program
from stages.integer.program import Op, Program
from tests.fuzzing.changes import WORDS, shaken
from tests.fuzzing.loaders.program import runs_alike
from tests.fuzzing.running import said
from tests.stages.exporters.tflite_file.networks import convolution, layer, value


def prepare() -> None:
    """Compile the engine now, and not in the first case's time."""
    library.find_library()


@cache
def base() -> bytes:
    """A small convolutional network's file, with scales that no value saturates in."""
    x, a, b = value("x", (3, 8, 8), zero_point=3), value("a", (8, 8, 8), 0.25, -5), value("b", (8, 4, 4), 0.5)
    f, y = value("f", (128,), 0.5), value("y", (10,), 2.0, 2)
    ops = (
        convolution(x, a, act_min=-5),
        convolution(a, b, groups=8, stride=2),
        Op(op="reshape", inputs=("b",), output="f", attrs={"shape": (128,)}),
        layer("linear", f, y, (10, 128), {}),
    )
    values = {one.name: one for one in (x, a, b, f, y)}
    program = Program(values=values, ops=ops, input="x", output="y", requantize="fixed_point")
    return program_to_tflite(program).data


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    path = folder / "net.tflite"
    if rng.random() < 0.5:
        path.write_bytes(shaken(base(), rng))
    else:  # words of the tables, which lie at the end of the file, and in front of all else
        words = np.frombuffer(base()[: len(base()) // 4 * 4], np.uint32).copy()
        for _ in range(rng.choice((1, 1, 2))):
            near = rng.random() < 0.5
            at = rng.randrange(min(400, len(words)) if near else len(words))
            words[at] = rng.choice((*WORDS, rng.randrange(2**32), int(words[at]) ^ 1 << rng.randrange(8)))
        path.write_bytes(words.tobytes())
    try:
        program = read_program(path)
    except ValueError as error:
        return said(error)
    return runs_alike(program, rng)
