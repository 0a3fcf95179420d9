"""Programs on the engine of another CPU: cross-compiled, and run by an emulator of its instructions.

Plans are made here, as for any library, and written to a file; ``emulated.cpp`` runs them. Debian:
``apt-get install g++-aarch64-linux-gnu qemu-user``.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.backends.native_kernels import library
from stages.backends.native_kernels.instruction_sets import INSTRUCTION_SETS
from stages.backends.native_kernels.planner import Plan
from stages.backends.native_kernels.segments import ByReference, parts
from stages.backends.native_kernels.structures import STRUCTURES, EngineStep
from stages.integer.program import Integers, Program

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
PROCESSORS = {"neon": "cortex-a53", "neon_dotprod": "cortex-a76", "neon_i8mm": "max"}
"""For each instruction set a processor that has it, and none of the next."""

MISSING = next((name for name in (COMPILER, EMULATOR) if shutil.which(name) is None), None)
REASON = f"there is no {MISSING}: apt-get install g++-aarch64-linux-gnu qemu-user"

DRIVER = Path(__file__).with_name("emulated.cpp")


def run_emulated(isa: str, cases: Sequence[tuple[Program, Integers, int]], folder: Path) -> list[Integers]:
    """The output levels of programs that the engine runs whole.

    Args:
        isa: of `PROCESSORS`.
        cases: programs, their inputs' levels (N, …), and how many threads share the work.
        folder: for the driver and its files.
    """
    offset = 128 if isa in ("neon", "neon_dotprod") else 0
    driver, plans, results = folder / f"driver-{isa}", folder / f"plans-{isa}", folder / f"results-{isa}"
    if not driver.exists():
        _compile(isa, driver)
    sizes = [ctypes.sizeof(structure) for structure in STRUCTURES]
    with plans.open("wb") as file:
        file.write(_numbers(*sizes, offset, len(cases)))
        for program, q, threads in cases:
            (only,) = parts(program, keep=False, dot_offset=offset)
            assert not isinstance(only, ByReference)
            file.write(_written(only, program, np.ascontiguousarray(q), threads))
    command = [EMULATOR, "-cpu", PROCESSORS[isa], "-L", "/usr/aarch64-linux-gnu", str(driver)]
    subprocess.run([*command, str(plans), str(results)], check=True, timeout=240)
    return list(_read(results.read_bytes(), cases))


def _compile(isa: str, target: Path) -> None:
    flags, header = next((one.flags, one.header) for one in INSTRUCTION_SETS if one.name == isa)
    common = [flag for flag in library.FLAGS if flag not in ("-shared", "-fPIC")]
    selected = (f'-DISA_HEADER="isa/{header}"', f"-I{library.SOURCE}", str(DRIVER), "-o", str(target))
    subprocess.run([COMPILER, *common, *flags, *selected], check=True)


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _block(data: bytes) -> bytes:
    return _numbers(len(data)) + data


def _written(plan: Plan, program: Program, q: Integers, threads: int) -> bytes:
    pinned, starts = b"", []
    for array in plan.pinned:
        pinned += bytes(-len(pinned) % 64)
        starts.append((array.ctypes.data, array.nbytes, len(pinned)))
        pinned += array.tobytes() + bytes(256)  # vectors are read whole
    pointers = [
        (number * ctypes.sizeof(EngineStep) + at, address)
        for number, step in enumerate(plan.steps)
        for at, address in _pointers(step)
    ]
    moved = [
        (at, place + address - start)
        for at, address in pointers
        for start, size, place in starts
        if start <= address < start + max(size, 1)
    ]
    assert len(moved) == len(pointers)
    output = program.values[program.output]
    return b"".join(
        (
            _numbers(len(q), threads, plan.arena_bytes, len(plan.steps)),
            *map(_block, (bytes(plan.steps), bytes(plan.images), pinned)),
            _numbers(len(moved), *(number for pair in moved for number in pair)),
            _numbers(1, q[:1].nbytes),
            _block(q.tobytes()),
            _numbers(1, int(np.prod(output.shape)) * output.dtype.itemsize),
        )
    )


def _pointers(structure: Any, start: int = 0) -> Iterator[tuple[int, int]]:
    """(byte, address) of all that are not null."""
    for name, kind in structure._fields_:
        value, at = getattr(structure, name), start + getattr(type(structure), name).offset
        if isinstance(value, ctypes.Structure):
            yield from _pointers(value, at)
        elif issubclass(kind, ctypes._Pointer) and value:
            yield at, ctypes.cast(value, ctypes.c_void_p).value or 0


def _read(data: bytes, cases: Sequence[tuple[Program, Integers, int]]) -> Iterator[Integers]:
    start = 0
    for program, q, _ in cases:
        value = program.values[program.output]
        shape = (len(q), *value.shape)
        size = int(np.prod(shape)) * value.dtype.itemsize
        yield np.frombuffer(data[start : start + size], value.dtype).reshape(shape)
        start += size
