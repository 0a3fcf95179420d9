"""Calls of CMSIS-NN, compiled strictly by gcc with the shim in its place, and run on samples."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.exporters.c_code.model import example
from stages.exporters.cmsis_nn import CmsisNN
from stages.exporters.tflite_file.layout import TensorLayout
from stages.integer.program import Program
from tests.stages.exporters.c_code.compiled import SANITIZED, STRICT

SHIM = Path(__file__).parent / "cmsis_nn_shim"

PROCESSORS = {"plain": (), "dsp": ("-DARM_MATH_DSP",), "mve": ("-DARM_MATH_DSP", "-DARM_MATH_MVEI")}
"""How each kind of processor is feigned: the macros that CMSIS-NN defines there."""


def compile_cmsis(program: Program, folder: Path, *flags: str) -> Path:
    """Export, compile with the shim; returns the program that maps samples to outputs."""
    assert CmsisNN().refusals(program) == []
    CmsisNN().write(program, None, folder)
    (folder / "main.c").write_text(example())
    binary = folder / "model"
    sources = ["model.c", "main.c", str(SHIM / "arm_nnfunctions.c")]
    command = ["gcc", *STRICT, *SANITIZED, *flags, f"-I{SHIM}", *sources, "-o", str(binary)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return binary


def run_cmsis(binary: Path, program: Program, q: np.ndarray) -> np.ndarray:
    """The levels that the compiled network gives for (N, …) levels, in the program's layout."""
    x, y = (program.values[name] for name in (program.input, program.output))
    given = TensorLayout.usual(x.shape).to_file(q)
    done = subprocess.run([binary], input=given.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return from_usual(np.frombuffer(done.stdout, np.int8), y.shape)


def from_usual(levels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(N, *shape) from the levels in the order that they come out."""
    layout = TensorLayout.usual(shape)
    return layout.from_file(levels.reshape(-1, *layout.shape), shape)
