"""C++ that the exporter writes, compiled strictly against gemmlowp's headers, and run on samples."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages.exporters.gemmlowp import Gemmlowp
from stages.integer.program import Program
from stages.integer.unsigned import from_unsigned, to_unsigned

STRICT = ("-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O0")

needs_gemmlowp = pytest.mark.skipif(
    not Path("/usr/include/gemmlowp/public/gemmlowp.h").exists(), reason="needs apt package libgemmlowp-dev"
)


def compile_cpp(program: Program, folder: Path, *flags: str) -> Path:
    """Export, compile; returns the program that maps samples to outputs."""
    assert Gemmlowp().refusals(program) == []
    Gemmlowp().write(program, None, folder)
    binary = folder / "model"
    command = ["g++", *STRICT, *flags, "model.cpp", "main.cpp", "-o", str(binary), "-lpthread"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return binary


def run_cpp(binary: Path, program: Program, q: np.ndarray) -> np.ndarray:
    """The program's own levels that the compiled network gives for (N, …) of them."""
    wide = program.values[program.input].wide
    levels = q if wide else np.ascontiguousarray(to_unsigned(q))
    done = subprocess.run([binary], input=levels.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    y = program.values[program.output]
    found = np.frombuffer(done.stdout, y.dtype if y.wide else np.uint8).reshape(len(q), *y.shape)
    return from_unsigned(found, y)
