"""resample: ``y = clamp(zy + rescale(Σ_ij rows[o, i] · columns[p, j] · (q−z)[c, i, j]))``.

`rows` (H', H) and `columns` (W', W) are int32, and the ratio holds the division by what they are multiples
of. Averages over windows of several sizes are exact in this form, with weights ``L / size`` for L the least
common multiple of the sizes; bilinear and bicubic weights lie on a grid of ``2^-11``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.bounds import FLOAT32_EXACT
from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.requantizer import finisher, rescaler
from stages.integer.signature import Shape, Signature, tensor_of
from stages.integer.sums import check_sum, span, sum_bound


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(C, H', W')."""
    if len(shapes[0]) != 3:
        raise ValueError(f"input of shape {shapes[0]}: must be (C, H, W)")
    rows, columns = (tensor_of(op, name, np.int32) for name in ("rows", "columns"))
    if rows.ndim != 2 or columns.ndim != 2 or (rows.shape[1], columns.shape[1]) != shapes[0][1:]:
        raise ValueError(
            f"rows {rows.shape} and columns {columns.shape}: must be (H', H) and (W', W) for {shapes[0]}"
        )
    return (shapes[0][0], len(rows), len(columns))


def bound(op: Op, program: Program) -> int:
    """All levels at their largest, of the heaviest row and the heaviest column."""
    heaviest = [
        int(np.abs(op.tensors[name].astype(np.int64)).sum(axis=1).max(initial=0))
        for name in ("rows", "columns")
    ]
    return heaviest[0] * heaviest[1] * span(program.values[op.inputs[0]])


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """Weights of which int64 holds the sums."""
    for name in ("rows", "columns"):
        largest = int(np.abs(op.tensors[name].astype(np.int64)).max(initial=0))
        if largest > 2**24:
            raise ValueError(f"{name} has a weight of magnitude {largest}: must be within ±2^24")


SIGNATURE = Signature(shape=output_shape, bound=bound, check=check)


def prepare(op: Op, program: Program) -> Kernel:
    """Two BLAS products an image, in the float type in which its sums are exact."""
    check_sum(op, program)
    dtype = np.dtype(np.float32 if sum_bound(op, program) < FLOAT32_EXACT else np.float64)
    rescale, finish = rescaler(op, program), finisher(op, program)
    zero = dtype.type(program.values[op.inputs[0]].zero_point)
    rows, columns = op.tensors["rows"].astype(dtype), op.tensors["columns"].T.astype(dtype)

    def run(q: Integers) -> Integers:
        sums = np.matmul(rows, np.matmul(q.astype(dtype) - zero, columns))
        return finish(rescale(sums.astype(np.int32)))

    return run
