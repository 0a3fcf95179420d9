"""The engine as a shared library: compiled for an instruction set by a C++ compiler on first use, then kept.

The CPU is asked first what it has, by a small library of its own. The compiler is ``CXX``, or ``c++`` on the
PATH, or the one that the package ziglang carries, which takes a minute. A file's name holds a hash of the
source, the command and the compiler's version; it is written whole and renamed, so that processes may compile
it at once.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from stages.backends.native_kernels.instruction_sets import InstructionSet, choose
from stages.backends.native_kernels.structures import STRUCTURES, EngineStep, ExternalArray, Image

log = logging.getLogger(__name__)

SOURCE = Path(__file__).parent / "source"
FLAGS = (
    *("-std=c++17", "-O3", "-shared", "-fPIC", "-pthread"),
    "-ffp-contract=off",  # float32 products and sums round one by one, as the program says
)


@dataclass(frozen=True)
class Library:
    """The engine, compiled for one instruction set."""

    functions: ctypes.CDLL
    isa: str
    dot_offset: int
    """What its products take away from levels first, for which biases make up."""


@cache
def find_library(isa: str | None = None) -> Library | str:
    """The engine, or the reason why there is none here.

    Args:
        isa: an instruction set's name; None for the fastest of this CPU.

    Raises:
        PipelineError: this CPU lacks the instruction set.
    """
    compiler = find_compiler()
    if compiler is None:
        return (
            "there is no C++ compiler (CXX, or c++ on the PATH, or pip install "
            "'quantization-pipeline[compiler]', which brings one)"
        )
    try:
        chosen = choose(isa, cpu_features(compiler))
        functions = ctypes.CDLL(str(compiled(compiler, chosen)))
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "no message").strip().splitlines()
        return f"{' '.join(compiler)} fails: {next((line for line in lines if 'error' in line), lines[0])}"
    except OSError as error:
        return f"its library cannot be loaded: {error}"
    return _declared(functions, chosen)


def find_compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler; None where there is none."""
    if own := shutil.which(os.environ.get("CXX", "c++")):
        return (own,)
    return (sys.executable, "-m", "ziglang", "c++") if find_spec("ziglang") is not None else None


def cpu_features(compiler: tuple[str, ...]) -> frozenset[str]:
    """What this CPU has, of what `INSTRUCTION_SETS` need."""
    library = ctypes.CDLL(str(_built(compiler, "cpu", ())))
    library.features.restype = ctypes.c_char_p
    return frozenset(library.features().decode().split())


def compiled(compiler: tuple[str, ...], isa: InstructionSet) -> Path:
    """The engine's library for an instruction set, which this CPU need not have."""
    header = f'-DISA_HEADER="isa/{isa.header}"'
    return _built(compiler, "engine", (*isa.flags_of(compiler), header), f"-{isa.name}")


def _built(compiler: tuple[str, ...], name: str, flags: tuple[str, ...], suffix: str = "") -> Path:
    """The library of one source file; its name holds a hash of all that it is made of."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(repr((version, FLAGS, flags)).encode())
    for file in sorted(path for path in SOURCE.rglob("*.*") if path.suffix in (".h", ".cpp")):
        digest.update(file.read_bytes())
    target = _folder() / f"{name}{suffix}-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        what = f"the engine for {suffix[1:]}" if suffix else "a probe of the CPU"
        log.info("backend native: compiling %s into %s by %s", what, target, " ".join(compiler))
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / target.name
            command = [*compiler, *FLAGS, *flags, str(SOURCE / f"{name}.cpp"), "-o", str(built)]
            subprocess.run(command, capture_output=True, text=True, check=True)
            built.replace(target)
    return target


def _folder() -> Path:
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "quantization-pipeline"


def _declared(library: ctypes.CDLL, isa: InstructionSet) -> Library | str:
    sizes = (ctypes.c_int64 * len(STRUCTURES))()
    library.layout(sizes)
    if list(sizes) != [ctypes.sizeof(structure) for structure in STRUCTURES]:
        return f"the compiler lays structures out in {list(sizes)} bytes, unlike ctypes"
    library.team.restype = ctypes.c_void_p
    library.team.argtypes = [ctypes.c_int32]
    library.disband.restype = None
    library.disband.argtypes = [ctypes.c_void_p]
    library.quantize.restype = None
    real = ctypes.c_float
    library.quantize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, real, real, real, real]
    library.run.restype = None
    library.run.argtypes = [
        ctypes.POINTER(EngineStep),
        ctypes.POINTER(Image),
        ctypes.c_int32,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_void_p,
        ctypes.POINTER(ExternalArray),
        ctypes.c_int64,
        ctypes.POINTER(ctypes.c_double),
    ]
    log.info("backend native: kernels for %s", isa.name)
    return Library(functions=library, isa=isa.name, dot_offset=library.dot_offset())
