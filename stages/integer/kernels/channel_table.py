"""channel_table: ``y = table[c][q]``, a table of 256 levels for each index c along one dimension, `axis`.

`table` (C, 256), in the output's dtype, holds the functions, rounding and clamp; its columns are levels of
the input from the least value of its dtype (−128 or 0) on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.signature import Signature, same_shape, tensor_of


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """A row of the output's levels for each channel."""
    axis = op.attrs["axis"]
    if not 0 <= axis < len(y.shape):
        raise ValueError(f"axis={axis}: must be a dimension of its input {y.shape}")
    table = tensor_of(op, "table", y.dtype, (y.shape[axis], 256))
    if table.size and (table.min() < y.quant_min or table.max() > y.quant_max):
        raise ValueError(
            f"table spans {table.min()}..{table.max()}: must be within the output's levels "
            f"{y.quant_min}..{y.quant_max}"
        )


SIGNATURE = Signature(attrs=("axis",), ratios="own", clamps=False, shape=same_shape, check=check)


def first_entries(op: Op, program: Program) -> np.ndarray:
    """Where each channel's table begins among all in a row, in a shape that broadcasts against a sample."""
    x, axis = program.values[op.inputs[0]], op.attrs["axis"]
    first = 256 * np.arange(x.shape[axis], dtype=np.int32)
    return first.reshape(-1, *[1] * (len(x.shape) - 1 - axis))


def prepare(op: Op, program: Program) -> Kernel:
    """All channels' tables in a row, each in the order of bit patterns."""
    x = program.values[op.inputs[0]]
    table = np.roll(op.tensors["table"], 128, axis=1) if x.dtype == np.int8 else op.tensors["table"]
    rows, first = table.reshape(-1), first_entries(op, program)

    def run(q: Integers) -> Integers:
        levels: Integers = rows[q.view(np.uint8) + first]
        return levels

    return run
