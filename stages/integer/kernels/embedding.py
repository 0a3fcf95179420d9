"""embedding: ``y[…, :] = table[q[…]]``: a row of levels for each token.

`table` (tokens, D), in the output's dtype, holds levels of the output. The input holds numbers of tokens,
``0 ≤ q < tokens``, as levels of scale 1 and zero point 0 (`Value.counts`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.signature import Shape, Signature, tensor_of


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The input's, and a row's size."""
    table = tensor_of(op, "table", (np.int8, np.uint8))
    if table.ndim != 2:
        raise ValueError(f"tensor 'table' is of shape {table.shape}: must be (tokens, D)")
    return (*shapes[0], table.shape[1])


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """A row of the output's levels for each level of the input."""
    x, table = inputs[0], tensor_of(op, "table", y.dtype)
    if (x.scale, x.zero_point, x.quant_min) != (1.0, 0, 0) or x.quant_max >= len(table):
        raise ValueError(
            f"reads levels {x.quant_min}..{x.quant_max} of scale={x.scale}, zero_point={x.zero_point}: must "
            f"be numbers of its {len(table)} rows, of scale 1 and zero point 0"
        )
    if table.size and (table.min() < y.quant_min or table.max() > y.quant_max):
        raise ValueError(
            f"table spans {table.min()}..{table.max()}: must be within the output's levels "
            f"{y.quant_min}..{y.quant_max}"
        )


SIGNATURE = Signature(ratios="own", clamps=False, looks_up=True, shape=output_shape, check=check)


def prepare(op: Op, program: Program) -> Kernel:
    """Rows of the table."""
    table = op.tensors["table"]

    def run(q: Integers) -> Integers:
        return table[q]

    return run
