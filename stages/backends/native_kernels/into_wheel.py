"""The engine's libraries in a wheel: compiled with it, so that its users need no compiler.

``pip wheel .`` compiles one for each instruction set of the machine's architecture, where there is a
compiler, and calls the wheel after its platform; without one it holds the source, and says so.
``NATIVE_PREBUILT=avx2,scalar`` names others, and an empty one none. setuptools finds the classes by
``[tool.setuptools.cmdclass]`` in pyproject.toml. An editable installation compiles on first use, as its
sources may change.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parents[3]))  # setuptools loads this file alone

from stages.backends.native_kernels import library
from stages.backends.native_kernels.instruction_sets import (
    INSTRUCTION_SETS,
    InstructionSet,
    check_name,
)

CHOSEN = "NATIVE_PREBUILT"
_ARM = ("aarch64", "arm64")
_X86 = ("x86_64", "amd64")


class BuildWithEngine(build_py):  # type: ignore[misc]
    """Compiles the engine beside the modules that setuptools copies."""

    def run(self) -> None:
        """Copy, then compile."""
        super().run()
        if self.editable_mode:
            return
        for built in build(Path(self.build_lib) / "stages" / "backends" / "native_kernels"):
            self.announce(f"native engine: {built.name}", level=2)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """With the libraries, so that they are installed."""
        folder = Path(self.build_lib) / "stages" / "backends" / "native_kernels" / library.BROUGHT.name
        found: list[str] = super().get_outputs(include_bytecode)
        return [*found, *(str(path) for path in sorted(folder.glob("*.so")))]


class PlatformWheel(bdist_wheel):  # type: ignore[misc]
    """Names the wheel after the platform whose code it holds; any Python takes it."""

    def finalize_options(self) -> None:
        """Know that code of a platform will be in it before the wheel is laid out."""
        if wanted() and library.find_compiler() is not None:
            self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """(python, abi, platform)."""
        tag: tuple[str, str, str] = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


def wanted() -> list[InstructionSet]:
    """What ``NATIVE_PREBUILT`` names, or all that CPUs of this architecture may have.

    Raises:
        ValueError: it names none that there is.
    """
    chosen = os.environ.get(CHOSEN)
    if chosen is None:
        return [isa for isa in INSTRUCTION_SETS if _of_this_architecture(isa)]
    names = [name.strip() for name in chosen.split(",") if name.strip()]
    for name in names:
        try:
            check_name(name)
        except ValueError as error:
            raise ValueError(f"{CHOSEN}={chosen}: {error}") from None
    return [isa for isa in INSTRUCTION_SETS if isa.name in names]


def build(package: Path) -> list[Path]:
    """Compile what is wanted into the package's folder; nothing, and a word, where there is no compiler."""
    isas = wanted()
    compiler = library.find_compiler()
    if not isas:
        return []
    if compiler is None:
        print("native engine: there is no C++ compiler, the wheel holds its source", file=sys.stderr)
        return []
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            make = partial(library.prebuild, compiler, package / library.BROUGHT.name)
            wanted_parts = [(isa, part) for part in library.PARTS for isa in isas]
            return [make(None), *pool.map(lambda both: make(*both), wanted_parts)]
    except subprocess.CalledProcessError as error:
        message: Any = error.stderr or error.stdout or ""
        raise RuntimeError(
            f"the native engine does not compile: {message.strip()[:2000]}. Remedy: another compiler by CXX, "
            f"or {CHOSEN}='' for a wheel that compiles on first use"
        ) from error


def _of_this_architecture(isa: InstructionSet) -> bool:
    machine = platform.machine().lower()
    if isa.header == "neon.h":
        return machine in _ARM
    return not isa.needs or machine in _X86
