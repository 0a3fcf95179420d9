"""table: ``y = table[q]``, any function of one value: 256 levels to 256 levels.

`table` (256,), in the output's dtype, begins with the least value of the input's dtype (−128 or 0); it holds
rounding and clamp. Of counts (`Value.counts`) it has an entry for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.requantizer import look_up
from stages.integer.signature import Signature, same_shape, tensor_of


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """An entry for each level, which is a level of the output."""
    table = tensor_of(op, "table", y.dtype, (inputs[0].quant_max + 1 if inputs[0].counts else 256,))
    if table.min() < y.quant_min or table.max() > y.quant_max:
        raise ValueError(
            f"table spans {table.min()}..{table.max()}: must be within the output's levels "
            f"{y.quant_min}..{y.quant_max}"
        )


SIGNATURE = Signature(ratios="own", clamps=False, looks_up=True, shape=same_shape, check=check)


def prepare(op: Op, program: Program) -> Kernel:
    """The table in the order of bit patterns instead of levels: −1 is the pattern 255."""
    if program.values[op.inputs[0]].counts:
        return op.tensors["table"].__getitem__
    signed = program.values[op.inputs[0]].dtype == np.int8
    table = np.roll(op.tensors["table"], 128) if signed else op.tensors["table"]

    def run(q: Integers) -> Integers:
        return look_up(table, q)

    return run
