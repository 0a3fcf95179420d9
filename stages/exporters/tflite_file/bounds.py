"""The bounds of an operator's levels: a fused activation where TFLite has one that gives them, else after it.

A fused activation clamps to these levels (CalculateActivationRangeQuantized in TFLite's kernel_util.cc; the
output's type is int8):

=======  ========================================================
NONE     −128 .. 127
RELU     zy .. 127
RELU6    zy .. min(127, zy + round(6 / s_y)),  half away from zero
N1_TO_1  max(−128, zy − round(1 / s_y)) .. min(127, zy + round(1 / s_y))
=======  ========================================================

Other bounds are a MAXIMUM and a MINIMUM with a constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from stages.exporters.tflite_file.writer import TfliteWriter
from stages.integer.program import Op, Program, Value

ACTIVATIONS = schema.ActivationFunctionType


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What becomes of ``act_min`` and ``act_max``.

    Args:
        fused: the activation function of the operator itself.
        low: the level that a MAXIMUM after it has; None for none.
        high: the level that a MINIMUM after it has; None for none.
    """

    fused: int = ACTIVATIONS.NONE
    low: int | None = None
    high: int | None = None

    @classmethod
    def of(cls, op: Op, program: Program, *, fuses: bool = True) -> Self:
        """The bounds of an operator; of one that only moves levels, and has none, nothing."""
        y = program.values[op.output]
        if "act_min" not in op.attrs:
            return cls()
        wanted = (op.attrs["act_min"], op.attrs["act_max"])
        ranges = {kind: ends for kind, ends in _ranges(y).items() if fuses or kind == ACTIVATIONS.NONE}
        for kind, ends in ranges.items():
            if ends == wanted:
                return cls(fused=kind)
        kind = max(
            (k for k, (low, high) in ranges.items() if low <= wanted[0] and high >= wanted[1]),
            key=lambda k: (ranges[k][0] == wanted[0], ranges[k][1] == wanted[1], k == ACTIVATIONS.NONE),
        )
        low, high = (None if a == b else b for a, b in zip(ranges[kind], wanted, strict=True))
        return cls(fused=kind, low=low, high=high)


def _ranges(y: Value) -> dict[int, tuple[int, int]]:
    """The levels that each activation leaves."""
    info = np.iinfo(y.dtype)
    low, high, zero = int(info.min), int(info.max), y.zero_point

    def level(real: float) -> int:
        steps = float(np.float32(real) / np.float32(y.scale))
        return max(low, min(high, zero + int(math.copysign(math.floor(abs(steps) + 0.5), steps))))

    return {
        ACTIVATIONS.NONE: (low, high),
        ACTIVATIONS.RELU: (zero, high),
        ACTIVATIONS.RELU6: (zero, level(6.0)),
        ACTIVATIONS.RELU_N1_TO_1: (level(-1.0), level(1.0)),
    }


def finish(
    writer: TfliteWriter, op: Op, code: str, inputs: Sequence[int], y: int, options: Any, bounds: Bounds
) -> None:
    """The operator, and what its bounds need after it; `y` is the value's tensor."""
    steps = [
        (kind, level)
        for kind, level in (("MAXIMUM", bounds.low), ("MINIMUM", bounds.high))
        if level is not None
    ]
    tensors = [
        writer.like(y, f"{op.output}/unclamped{i or ''}", writer.tensors[y].shape) for i in range(len(steps))
    ]
    tensors.append(y)
    writer.operator(code, inputs, tensors[0], options)
    clamp(writer, op, tensors, steps)


def clamp(writer: TfliteWriter, op: Op, tensors: Sequence[int], steps: Sequence[tuple[str, int]]) -> None:
    """MAXIMUM and MINIMUM with a level, from one tensor to the next."""
    value = writer.program.values[op.output]
    for (kind, level), source, target in zip(steps, tensors, tensors[1:], strict=False):
        bound = writer.constant(
            f"{op.output}/{kind.lower()}",
            np.array([level], value.dtype),
            np.array([value.scale]),
            zero=value.zero_point,
        )
        writer.operator(kind, [source, bound], target, schema.MaximumMinimumOptionsT())
