"""constant: the same ``levels`` for each sample of the input, whose values do not matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.signature import Shape, Signature, tensor_of


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The tensor's."""
    return tensor_of(op, "levels", (np.int8, np.uint8)).shape


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """Levels of the output."""
    levels = tensor_of(op, "levels", y.dtype, y.shape)
    if levels.size and (levels.min() < y.quant_min or levels.max() > y.quant_max):
        raise ValueError(
            f"levels span {levels.min()}..{levels.max()}: must be within {y.quant_min}..{y.quant_max}"
        )


SIGNATURE = Signature(ratios="own", view=True, clamps=False, looks_up=True, shape=output_shape, check=check)


def prepare(op: Op, program: Program) -> Kernel:
    """A view."""
    levels = op.tensors["levels"]

    def run(q: Integers) -> Integers:
        return np.broadcast_to(levels, (len(q), *levels.shape))

    return run
