"""C that the exporter writes, compiled strictly by gcc, and run on samples."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from stages.data.description import Description
from stages.exporters.c import PortableC
from stages.integer.program import Program

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compile_c(program: Program, folder: Path, *flags: str, description: Description | None = None) -> Path:
    """Export, compile; returns the program that maps samples to outputs."""
    assert PortableC().refusals(program) == []
    PortableC().write(program, description, folder)
    binary = folder / "model"
    command = ["gcc", *STRICT, *flags, "model.c", "main.c", "-o", str(binary)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return binary


def run_c(binary: Path, program: Program, q: np.ndarray) -> np.ndarray:
    """The levels that the compiled network gives for (N, …) levels."""
    done = subprocess.run([binary], input=np.ascontiguousarray(q).tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    y = program.values[program.output]
    return np.frombuffer(done.stdout, y.dtype).reshape(len(q), *y.shape)
