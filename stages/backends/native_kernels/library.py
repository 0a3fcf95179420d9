"""The native code as shared libraries: from the wheel, or compiled for an instruction set on first use.

The CPU is asked first what it has, by a small library of its own. A wheel that was built where there is a
compiler holds the libraries (`into_wheel`). Else the compiler is ``CXX``, or ``c++`` on the PATH, or the one
that the package ziglang carries, which takes a minute. A file's name holds a hash of the source, the command
and the compiler's version; it is written whole and renamed, so that processes may compile it at once.
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
from typing import Literal

from stages.backends.native_kernels.instruction_sets import InstructionSet, available, choose
from stages.backends.native_kernels.structures import STRUCTURES, EngineStep, ExternalArray, Image

log = logging.getLogger(__name__)

SOURCE = Path(__file__).parent / "source"
BROUGHT = Path(__file__).parent / "prebuilt"
"""What a wheel brings."""

NativePart = Literal["engine", "observe"]
"""Each is a library of its own, so that nobody waits for what is not needed."""
PARTS: dict[NativePart, str] = {"engine": "the engine", "observe": "observation"}

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
    panels: bool
    """Whether its convolutions go by panels (``source/panel.h``)."""


@cache
def find_library(isa: str | None = None) -> Library | str:
    """The engine, or the reason why there is none here.

    Args:
        isa: an instruction set's name; None for the fastest of this CPU.

    Raises:
        PipelineError: this CPU lacks the instruction set.
    """
    found = load(isa)
    return found if isinstance(found, str) else _declared(*found)


def load(isa: str | None, part: NativePart = "engine") -> tuple[ctypes.CDLL, InstructionSet] | str:
    """A part of the native code, and what it is compiled for; or the reason why there is none here.

    Args:
        isa: as `find_library`.
        part: which.

    Raises:
        PipelineError: this CPU lacks the instruction set.
    """
    compiler = find_compiler()
    try:
        features = cpu_features(compiler)
        chosen = choose(isa, features)
        if compiler is None and isa is None:  # a wheel may bring fewer
            brought = (one for one in available(features).values() if _brought(one, part).exists())
            chosen = next(brought, chosen)
        return ctypes.CDLL(str(compiled(compiler, chosen, part))), chosen
    except NoCompilerError as error:
        return str(error)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "no message").strip().splitlines()
        return (
            f"{' '.join(compiler or ())} fails: {next((line for line in lines if 'error' in line), lines[0])}"
        )
    except OSError as error:
        return f"its library cannot be loaded: {error}"


def check_isa(isa: str | None) -> None:
    """Raise `PipelineError` where this CPU lacks an instruction set; nothing where no compiler tells.

    Takes a fraction of a second: the engine itself is not compiled.
    """
    if isa is None:
        return
    try:
        features = cpu_features(find_compiler())
    except (NoCompilerError, subprocess.CalledProcessError, OSError):  # `find_library` says so, or falls back
        return
    choose(isa, features)


def find_compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler; None where there is none."""
    if own := shutil.which(os.environ.get("CXX", "c++")):
        return (own,)
    return (sys.executable, "-m", "ziglang", "c++") if find_spec("ziglang") is not None else None


def cpu_features(compiler: tuple[str, ...] | None) -> frozenset[str]:
    """What this CPU has, of what `INSTRUCTION_SETS` need; as `compiled`, which see for `compiler`."""
    library = ctypes.CDLL(str(compiled(compiler, None)))
    library.features.restype = ctypes.c_char_p
    return frozenset(library.features().decode().split())


def compiled(
    compiler: tuple[str, ...] | None, isa: InstructionSet | None, part: NativePart = "engine"
) -> Path:
    """A library for an instruction set, which this CPU need not have; None for the CPU's probe.

    Args:
        compiler: its command; None where there is none, so that only a wheel can bring it.
        isa: the instruction set.
        part: of the native code.

    Raises:
        NoCompilerError: there is no compiler, and the wheel brings none.
        subprocess.CalledProcessError: the compiler fails.
    """
    if (brought := _brought(isa, part)).exists():
        return brought
    if compiler is None:
        raise NoCompilerError(
            "there is no C++ compiler (CXX, or c++ on the PATH, or pip install "
            "'quantization-pipeline[compiler]', which brings one)"
        )
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    target = _folder() / _name(isa, part, (version, *_flags(compiler, isa)))
    if not target.exists():
        what = "a probe of the CPU" if isa is None else f"{PARTS[part]} for {isa.name}"
        log.info("native kernels: compiling %s into %s by %s", what, target, " ".join(compiler))
        _compile(compiler, isa, part, target)
    return target


def prebuild(
    compiler: tuple[str, ...], folder: Path, isa: InstructionSet | None, part: NativePart = "engine"
) -> Path:
    """Compile for a wheel, as `compiled` looks for it: with the C++ library in it, which others may lack."""
    alone = ("-static-libstdc++", "-static-libgcc", "-s") if sys.platform == "linux" else ()
    target = folder / _name(isa, part, ())
    _compile(compiler, isa, part, target, alone)
    return target


class NoCompilerError(Exception):
    """There is no engine here, for want of a compiler."""


def _brought(isa: InstructionSet | None, part: NativePart) -> Path:
    return BROUGHT / _name(isa, part, ())


def _name(isa: InstructionSet | None, part: NativePart, made_by: tuple[str, ...]) -> str:
    """A library's file name, with a hash of all that it is made of."""
    what = "cpu" if isa is None else f"{part}-{isa.name}"
    digest = hashlib.sha256(repr((FLAGS, made_by, isa and (isa.header, sorted(isa.needs)))).encode())
    for file in sorted(path for path in SOURCE.rglob("*.*") if path.suffix in (".h", ".cpp")):
        digest.update(file.read_bytes())
    return f"{what}-{digest.hexdigest()[:16]}.so"


def _flags(compiler: tuple[str, ...], isa: InstructionSet | None) -> tuple[str, ...]:
    return () if isa is None else (*isa.flags_of(compiler), f'-DISA_HEADER="isa/{isa.header}"')


def _compile(
    compiler: tuple[str, ...],
    isa: InstructionSet | None,
    part: NativePart,
    target: Path,
    more: tuple[str, ...] = (),
) -> None:
    source = SOURCE / ("cpu.cpp" if isa is None else f"{part}.cpp")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / target.name
        command = [*compiler, *FLAGS, *_flags(compiler, isa), *more, str(source), "-o", str(built)]
        subprocess.run(command, capture_output=True, text=True, check=True)
        built.replace(target)


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
    library.products.restype = ctypes.c_int64
    library.products.argtypes = [ctypes.c_int64, ctypes.c_int32, *[ctypes.c_void_p] * 4]
    library.quantize.restype = None
    real = ctypes.c_float
    library.quantize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, real, real, real, real]
    library.dequantize.restype = None
    library.dequantize.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64),
        *(real, ctypes.c_int32, ctypes.c_int32),
    ]
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
    return Library(
        functions=library, isa=isa.name, dot_offset=library.dot_offset(), panels=bool(library.panels())
    )
