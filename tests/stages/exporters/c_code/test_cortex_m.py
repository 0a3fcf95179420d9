"""The C runs on Cortex-M4 and M55, under qemu, and gives the reference's integers there.

Instructions are counted by SysTick: with ``-icount shift=0`` qemu's clock advances by one nanosecond an
instruction, so that a tick of the board's clock is as many instructions as it has nanoseconds.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stages.exporters.c import PortableC
from stages.exporters.c_code.literals import braces
from stages.exporters.c_code.model import program_to_c
from stages.integer.interpreter import Interpreter
from stages.integer.program import Program
from tests.stages.exporters.tflite_file.networks import convolutional
from tests.stages.integer.strategies import random_input

SOURCES = Path(__file__).parent / "cortex_m"

needs_tools = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="needs apt packages gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm",
)


@dataclass(frozen=True, kw_only=True)
class Board:
    machine: str
    flags: tuple[str, ...]
    flash: int
    ram: int
    nanoseconds: float
    """How long a tick is."""


M4 = Board(
    machine="mps2-an386",
    flags=("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    flash=0,
    ram=0x20000000,
    nanoseconds=40,
)
M55 = Board(
    machine="mps3-an547",
    flags=("-mcpu=cortex-m55", "-mfloat-abi=hard"),
    flash=0x10000000,
    ram=0x30000000,
    nanoseconds=31.25,
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    output: np.ndarray
    instructions: float
    """How many a sample takes."""
    stack_bytes: int
    flash_bytes: int


def run_on(board: Board, program: Program, q: np.ndarray, folder: Path) -> Measured:
    """Compile for the board, run it in qemu."""
    PortableC().write(program, None, folder)
    rows = ",\n".join(braces(row) for row in q.reshape(len(q), -1).tolist())
    declared = f"static const MODEL_INPUT_TYPE samples[SAMPLES][MODEL_INPUT_SIZE] = {{{rows}}};\n"
    (folder / "samples.h").write_text(f"#define SAMPLES {len(q)}\n{declared}")
    strict = (
        "-std=gnu99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O2",
        "-ffp-contract=off",
        "-mthumb",
        *board.flags,
    )
    # what a program without its samples and the harness takes
    _call("arm-none-eabi-gcc", *strict, "-c", "model.c", "-o", "model.o", folder=folder)
    text, data, *_ = _call("arm-none-eabi-size", "model.o", folder=folder).splitlines()[1].split()
    script = (SOURCES / "memory.ld").read_text()
    (folder / "memory.ld").write_text(
        script.replace("FLASH :", f"{board.flash} :").replace("RAM (", f"{board.ram} (")
    )
    _call(
        "arm-none-eabi-gcc",
        *strict,
        "-nostartfiles",
        "-I.",
        str(SOURCES / "start.c"),
        "model.o",
        "-Wl,-T,memory.ld",
        "-o",
        "model.elf",
        folder=folder,
    )
    semihosting = ("-semihosting-config", "enable=on,target=native")
    machine = ("-M", board.machine, "-nographic", "-monitor", "none", "-serial", "none", "-icount", "shift=0")
    lines = _call("qemu-system-arm", *machine, *semihosting, "-kernel", "model.elf", folder=folder).split()
    *levels, ticks, stack = map(int, lines)
    y = program.values[program.output]
    return Measured(
        output=np.array(levels).reshape(len(q), *y.shape),
        instructions=ticks * board.nanoseconds / len(q),
        stack_bytes=stack,
        flash_bytes=int(text) + int(data),
    )


def _call(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


@needs_tools
@pytest.mark.parametrize("board", [M4, M55], ids=lambda board: board.machine)
@pytest.mark.parametrize("arithmetic", ["fixed_point", "float"])
def test_cortex_m_gives_the_references_integers(board, arithmetic, tmp_path):
    program = convolutional(arithmetic)
    q = random_input(program, 20)
    measured = run_on(board, program, q, tmp_path)
    np.testing.assert_array_equal(measured.output, Interpreter(program, threads=1).run(q))
    weights = program_to_c(program).constant_bytes
    assert weights < measured.flash_bytes < weights + 8000
    assert 50_000 < measured.instructions < 2_000_000
    assert measured.stack_bytes < 1024
