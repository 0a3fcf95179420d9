"""softmax along `axis`, in int64 whatever the program's requantization:

    a = exponentials[max q − q]         Σ = sum of a along the axis
    y = clamp(zy + ⌊(2·a·inverse_scale + Σ·2^14) / (Σ·2^15)⌋)

`exponentials` is ``rint(2^26 · exp(−s_x·d))`` for d = 0..255, `inverse_scale` is ``rint(2^14 / s_y)``: the
quotient is ``a / (Σ·s_y)`` rounded to nearest, ties up. Before that rounding, k entries along the axis and
``s_y ≤ 1/254`` give a result that is off by at most ``((k + 1)·2^-27 + 2^-22) / s_y`` levels.

An optional second input, whose shape broadcasts to the first's, says which entries take part: where it is
real zero, ``a = 0``, and the maximum is that of the others. A row of which none takes part is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.signature import Shape, Signature, same_shape, tensor_of

FRACTION_BITS = 26
"""Bits of the exponentials, the largest of which is 1."""

SCALE_BITS = 14
"""Bits of the reciprocal of the output's scale."""

MAX_INVERSE = 2**35
"""The largest `inverse_scale`: products stay below 2^63."""


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The input's."""
    axis, shape = op.attrs["axis"], shapes[0]
    if not 0 <= axis < len(shape):
        raise ValueError(f"axis={axis}: must be 0..{len(shape) - 1}")
    if not 1 <= shape[axis] <= 2**20:
        raise ValueError(f"axis={axis} has {shape[axis]} entries: must be 1..2^20")
    for keep in shapes[1:]:
        if len(keep) != len(shape) or any(n not in (1, size) for n, size in zip(keep, shape, strict=True)):
            raise ValueError(f"keeps entries of shape {keep}: must have {shape}'s dimensions, or 1")
    return same_shape(op, shapes[:1])


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """Exponentials that fall from 2^26, and a reciprocal whose products int64 holds."""
    exponentials = tensor_of(op, "exponentials", np.int32, (256,))
    inverse = int(tensor_of(op, "inverse_scale", np.int64, (1,))[0])
    if exponentials[0] != 2**FRACTION_BITS or exponentials.min() < 0 or np.diff(exponentials).max() > 0:
        raise ValueError(f"exponentials: must fall from 2^{FRACTION_BITS}, and not below 0")
    if not 0 < inverse <= MAX_INVERSE:
        raise ValueError(f"inverse_scale={inverse}: must be 1..2^35")


SIGNATURE = Signature(inputs=(1, 2), attrs=("axis",), ratios="own", shape=output_shape, check=check)


def prepare(op: Op, program: Program) -> Kernel:
    """A table of exponentials, and one division an entry."""
    y, axis = program.values[op.output], op.attrs["axis"] + 1
    exponentials = op.tensors["exponentials"].astype(np.int64)
    twice = 2 * int(op.tensors["inverse_scale"][0])
    dropped = program.values[op.inputs[-1]].zero_point

    def run(q: Integers, keep: Integers | None = None) -> Integers:
        if keep is None:
            below = q.max(axis=axis, keepdims=True).astype(np.int16) - q
            a: NDArray[np.int64] = exponentials[below]
        else:
            kept = keep != dropped
            lowest = np.iinfo(q.dtype).min
            largest = np.where(kept, q, lowest).max(axis=axis, keepdims=True).astype(np.int16)
            a = exponentials[np.maximum(largest - q, 0)] * kept
        total = a.sum(axis=axis, keepdims=True)
        if keep is not None:
            total[total == 0] = 1
        a *= twice
        a += total << SCALE_BITS
        a //= total << (SCALE_BITS + 1)
        a += y.zero_point
        return np.clip(a, op.attrs["act_min"], op.attrs["act_max"]).astype(y.dtype)

    return run
