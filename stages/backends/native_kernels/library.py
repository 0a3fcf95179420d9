"""The engine as a shared library: compiled by a C++ compiler on first use, then kept.

The compiler is ``CXX``, or ``c++`` on the PATH, or the one that the package ziglang carries, which takes a
minute. The file's name holds a hash of the source, the command and the compiler's version; it is written
whole and renamed, so that processes may compile it at once.
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
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from stages.backends.native_kernels.structures import STRUCTURES, EngineStep, ExternalArray, Image

log = logging.getLogger(__name__)

SOURCE = Path(__file__).parent / "source"
FLAGS = (
    *("-std=c++17", "-O3", "-shared", "-fPIC", "-pthread"),
    "-ffp-contract=off",  # float32 products and sums round one by one, as the program says
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"),
)


@cache
def find_library() -> ctypes.CDLL | str:
    """The engine, or the reason why it cannot run here."""
    compiler = find_compiler()
    if compiler is None:
        return (
            "there is no C++ compiler (CXX, or c++ on the PATH, or pip install "
            "'quantization-pipeline[compiler]', which brings one)"
        )
    try:
        library = ctypes.CDLL(str(_compiled(compiler)))
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "no message").strip().splitlines()
        return f"{' '.join(compiler)} fails: {next((line for line in lines if 'error' in line), lines[0])}"
    except OSError as error:
        return f"its library cannot be loaded: {error}"
    return _declared(library)


def find_compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler; None where there is none."""
    if own := shutil.which(os.environ.get("CXX", "c++")):
        return (own,)
    return (sys.executable, "-m", "ziglang", "c++") if find_spec("ziglang") is not None else None


def _compiled(compiler: tuple[str, ...]) -> Path:
    files = sorted(SOURCE.glob("*.*"))
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(repr((version, FLAGS)).encode())
    for file in files:
        digest.update(file.read_bytes())
    target = _folder() / f"engine-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        log.info("backend native: compiling the engine into %s by %s", target, " ".join(compiler))
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / target.name
            command = [*compiler, *FLAGS, str(SOURCE / "engine.cpp"), "-o", str(built)]
            subprocess.run(command, capture_output=True, text=True, check=True)
            built.replace(target)
    return target


def _folder() -> Path:
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "quantization-pipeline"


def _declared(library: ctypes.CDLL) -> ctypes.CDLL | str:
    library.missing.restype = ctypes.c_char_p
    missing = library.missing()
    if missing is not None:
        return f"this CPU has no {missing.decode()}"
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
    return library
