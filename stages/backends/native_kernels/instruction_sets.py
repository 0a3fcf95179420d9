"""The instruction sets that the engine's kernels are compiled for, and which of them a CPU has.

Kernels are written once, over the primitives that ``source/isa/README.md`` lists; an instruction set is one
header with them, and what it asks of compiler and CPU.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.errors import PipelineError, alternatives


@dataclass(frozen=True, kw_only=True)
class InstructionSet:
    """One way to compile the engine.

    Args:
        name: as in ``backend.isa``.
        header: in ``source/isa``.
        needs: features of the CPU, as ``source/cpu.cpp`` names them.
        flags: of GCC and clang.
        zig_flags: of zig, where it takes others: it has no -march for Arm; None for the same.
    """

    name: str
    header: str
    needs: frozenset[str] = frozenset()
    flags: tuple[str, ...] = ()
    zig_flags: tuple[str, ...] | None = None

    def flags_of(self, compiler: tuple[str, ...]) -> tuple[str, ...]:
        """As that compiler takes them."""
        return self.zig_flags if self.zig_flags is not None and "ziglang" in compiler else self.flags


def _x86(name: str, header: str, *needs: str) -> InstructionSet:
    flags = tuple(f"-m{feature.replace('_', '')}" for feature in needs)
    return InstructionSet(name=name, header=header, needs=frozenset(needs), flags=flags)


def _arm(name: str, *needs: str) -> InstructionSet:
    march = "+".join(("-march=armv8.2-a" if needs else "-march=armv8-a", *needs))
    mcpu = "+".join(("-mcpu=generic", *needs))
    return InstructionSet(
        name=name, header="neon.h", needs=frozenset(("neon", *needs)), flags=(march,), zig_flags=(mcpu,)
    )


AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
INSTRUCTION_SETS: tuple[InstructionSet, ...] = (
    _x86("avx512vbmi", "avx512vnni.h", *AVX512, "avx512_vbmi"),
    _x86("avx512vnni", "avx512vnni.h", *AVX512),
    _x86("avxvnni", "avxvnni.h", "avx2", "avx_vnni"),
    # the same instruction on the same registers, as CPUs with AVX-512 encode it
    _x86("avxvnni", "avxvnni.h", "avx2", "avx512f", "avx512vl", "avx512_vnni"),
    _x86("avx2", "avx2.h", "avx2"),
    _arm("neon_i8mm", "dotprod", "i8mm"),
    _arm("neon_dotprod", "dotprod"),
    _arm("neon"),
    InstructionSet(name="scalar", header="scalar.h", flags=("-Wno-psabi",)),
)
"""The fastest first."""

NAMES = tuple(dict.fromkeys(isa.name for isa in INSTRUCTION_SETS))


def available(features: Collection[str]) -> dict[str, InstructionSet]:
    """By name, what a CPU with these features can run, the fastest first."""
    found: dict[str, InstructionSet] = {}
    for isa in INSTRUCTION_SETS:
        if isa.needs.issubset(features):
            found.setdefault(isa.name, isa)
    return found


def choose(name: str | None, features: Collection[str]) -> InstructionSet:
    """The instruction set of that name, or the fastest.

    Raises:
        PipelineError: this CPU lacks it.
    """
    found = available(features)
    if name is None:
        return next(iter(found.values()))
    if name not in found:
        needs = " and ".join(sorted(next(isa for isa in INSTRUCTION_SETS if isa.name == name).needs))
        has = ", ".join(sorted(features)) or "none of those that the engine knows"
        raise PipelineError(
            f"backend.isa={name}: this CPU lacks it (it takes {needs}; the CPU has {has}). Remedy: "
            f"one of those that it has, backend.isa={', '.join(found)}; or null for the fastest"
        )
    return found[name]


def check_name(name: str | None) -> None:
    """Raise ValueError for an instruction set that there is not."""
    if name is not None and name not in NAMES:
        raise ValueError(f"isa={name}: {alternatives(name, NAMES)}; or null for the fastest of this CPU")
