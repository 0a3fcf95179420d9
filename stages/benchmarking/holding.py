"""Peers held to an older CPU's instructions: environment variables that their processes start with.

oneDNN (in torch and OpenVINO) reads ``ONEDNN_MAX_CPU_ISA``, torch's own kernels ``ATEN_CPU_CAPABILITY``, MKL
``MKL_ENABLE_INSTRUCTIONS``; a compiler is told its target (`Case.isa`). What asks the CPU itself, as MLAS in
onnxruntime, XNNPACK in LiteRT and ExecuTorch, MNN and ncnn do, cannot be held: it takes part and is marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from stages.backends.native_kernels.instruction_sets import NAMES

_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
_AVX512 = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "MKL_ENABLE_INSTRUCTIONS": "AVX512"}

VARIABLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "avx512vbmi": _AVX512,  # oneDNN knows no step between VNNI and bfloat16
        "avx512vnni": _AVX512,
        "avxvnni": {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI", **_AVX2},
        "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", **_AVX2},
        "scalar": {
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        },
    }
)
"""By instruction set, as in ``backend.isa``: what holds a process to it. The others are not x86's."""

COMPILER_TARGETS: Mapping[str, str] = MappingProxyType(
    {"avxvnni": "alderlake", "avx2": "x86-64-v3", "scalar": "x86-64"}
)
"""By instruction set: LLVM's name of a CPU that has no more."""


def check_held(isa: str | None) -> None:
    """Raise ValueError where peers cannot be held to the instruction set; None holds nobody."""
    if isa is not None and isa not in VARIABLES:
        known = ", ".join(name for name in NAMES if name in VARIABLES)
        raise ValueError(f"isa={isa}: peers can be held to {known}; or null for what the CPU has")


def held_environment(isa: str | None) -> Mapping[str, str]:
    """The variables of a process that is held to the instruction set; none where nobody is held."""
    return {} if isa is None else VARIABLES[isa]
