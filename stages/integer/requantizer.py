"""Requantization as kernels use it: accumulators to levels of the output, in the mode the program names.

``rescale`` multiplies by the ratio of scales, in one of two types: int64 for `fixed_point` (values of int32
range, so that their sums cannot wrap), float32 for `float`. ``finish`` rounds what is left to round, adds
the zero point and clamps:

    fixed_point   clamp(zy + rounding_divide_by_pot(Σ terms, headroom))
    float         clamp(zy + rint(Σ terms))                                 half to even
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.fixed_point import fused_multiply
from stages.integer.program import Integers, Op, Program, Value

Terms = NDArray[Any]
Rescale = Callable[[NDArray[np.int32]], Terms]
Finish = Callable[[Terms], Integers]


def rescaler(op: Op, program: Program, *, prefix: str = "", index: int | None = None) -> Rescale:
    """The multiplication by an operator's ratio of scales.

    Args:
        op: the operator whose tensors hold the ratio.
        program: names the mode.
        prefix: ``residual_`` for the residual's ratio.
        index: which one of several ratios (add, concat); None for all: one a channel, or one for all.

    Returns:
        A function from int32 (O, L) — any shape where there is but one ratio — to terms of that shape.
    """
    pick = slice(None) if index is None else slice(index, index + 1)
    if program.requantize == "fixed_point":
        return fused_multiply(op.tensors[prefix + "multiplier"][pick], op.tensors[prefix + "shift"][pick])
    ratio = op.tensors[prefix + "ratio"][pick].astype(np.float32)
    factor = ratio[0] if ratio.size == 1 else ratio.reshape(-1, 1)
    return lambda x: np.multiply(x.astype(np.float32), factor)


def finisher(op: Op, program: Program) -> Finish:
    """The last rounding, the zero point and the clamp: terms (overwritten) to levels of the same shape."""
    y = program.values[op.output]
    low, high = op.attrs["act_min"] - y.zero_point, op.attrs["act_max"] - y.zero_point
    headroom = op.attrs.get("headroom", 0)
    half = (1 << headroom) >> 1

    def finish(terms: Terms) -> Integers:
        if terms.dtype == np.float32:
            np.rint(terms, out=terms)
        elif headroom:
            terms += half + (terms >> 63)  # minus one where negative: ties away from zero
            terms >>= headroom
        levels: NDArray[np.int16] = np.clip(terms, low, high, out=terms).astype(np.int16)
        levels += np.int16(y.zero_point)
        return levels.astype(y.dtype)

    return finish


def all_levels(x: Value) -> NDArray[np.int32]:
    """``q − zero_point`` for the 256 bit patterns of `x`'s dtype, in the order in which `look_up` indexes."""
    patterns = np.arange(256, dtype=np.uint8).view(x.dtype)
    return patterns.astype(np.int32) - np.int32(x.zero_point)


def look_up(table: NDArray[Any], q: Integers) -> NDArray[Any]:
    """``table[q]`` for 8-bit `q` and a table over its bit patterns; keeps the memory order of `q`."""
    found: NDArray[Any] = table[q.view(np.uint8)]
    return found
