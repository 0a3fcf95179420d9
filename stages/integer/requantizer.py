"""Requantization as kernels use it: accumulators to levels of the output, in the mode the program names.

``rescale`` multiplies by the ratio of scales, in one of two types: int64 for both fixed points (values of
int32 range, so that their sums cannot wrap), float32 for `float`. ``finish`` rounds what is left to round,
adds the zero point and clamps:

    fixed_point          clamp(zy + rounding_divide_by_pot(Σ terms, headroom))           half away from zero
    fixed_point_single   clamp(zy + ((Σ terms + 2^(headroom−1)) >> headroom))            half towards +∞
    float                clamp(zy + rint(Σ terms))                                       half to even
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.fixed_point import fused_multiply
from stages.integer.program import Integers, Op, Program, Requantize, Value
from stages.integer.single_rounding import fused_multiply_single

Terms = NDArray[Any]
Rescale = Callable[[NDArray[np.int32]], Terms]
Finish = Callable[[Terms], Integers]

_FIXED: Mapping[Requantize, Callable[[NDArray[np.int32], NDArray[np.int32]], Rescale]] = {
    "fixed_point": fused_multiply,
    "fixed_point_single": fused_multiply_single,
    "tflm": fused_multiply,
}


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
    if fixed := _FIXED.get(program.requantize):
        return fixed(op.tensors[prefix + "multiplier"][pick], op.tensors[prefix + "shift"][pick])
    ratio = op.tensors[prefix + "ratio"][pick].astype(np.float32)
    factor = ratio[0] if ratio.size == 1 else ratio.reshape(-1, 1)
    return lambda x: np.multiply(x.astype(np.float32), factor)


def finisher(op: Op, program: Program) -> Finish:
    """The last rounding, the zero point and the clamp: terms (overwritten) to levels of the same shape."""
    y = program.values[op.output]
    low, high = op.attrs["act_min"] - y.zero_point, op.attrs["act_max"] - y.zero_point
    headroom = op.attrs.get("headroom", 0)
    half = (1 << headroom) >> 1
    away_from_zero = program.requantize in ("fixed_point", "tflm")
    exact = np.int32 if y.wide else np.int16  # the type that levels and zero point are added in

    def finish(terms: Terms) -> Integers:
        if terms.dtype.kind == "f":
            np.rint(terms, out=terms)
        elif headroom:
            if away_from_zero:
                terms += terms >> 63  # minus one where negative
            terms += half
            terms >>= headroom
        levels: Integers = np.clip(terms, low, high, out=terms).astype(exact)
        levels += exact(y.zero_point)
        return levels.astype(y.dtype, copy=False)

    return finish


def terms_of(
    op: Op, program: Program, x: Value, *, prefix: str = "", index: int | None = None
) -> Callable[[Integers], Terms]:
    """A value's levels to its terms of a sum, ``rescale(q − zero_point)``: looked up where there are but 256.

    Keeps the memory order of levels. Arguments as `rescaler` takes them.
    """
    rescale = rescaler(op, program, prefix=prefix, index=index)
    if x.wide:
        return lambda q: rescale(q - np.int32(x.zero_point))
    table = rescale(all_levels(x))
    return lambda q: look_up(table, q)


def all_levels(x: Value) -> NDArray[np.int32]:
    """``q − zero_point`` for the 256 bit patterns of `x`'s dtype, in the order in which `look_up` indexes."""
    patterns = np.arange(256, dtype=np.uint8).view(x.dtype)
    return patterns.astype(np.int32) - np.int32(x.zero_point)


def look_up(table: NDArray[Any], q: Integers) -> NDArray[Any]:
    """``table[q]`` for 8-bit `q` and a table over its bit patterns; keeps the memory order of `q`."""
    found: NDArray[Any] = table[q.view(np.uint8)]
    return found
