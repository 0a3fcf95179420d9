"""upsample_nearest: ``y[c, i, j] = q[c, ⌊i/f⌋, ⌊j/g⌋]``, ``factor = (f, g)``; scale and zero point stay."""

from __future__ import annotations

from collections.abc import Sequence

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(C, f·H, g·W)."""
    if len(shapes[0]) != 3:
        raise ValueError(f"input of shape {shapes[0]}: must be (C, H, W)")
    channels, height, width = shapes[0]
    return (channels, height * op.attrs["factor"][0], width * op.attrs["factor"][1])


SIGNATURE = Signature(attrs=("factor",), ratios="none", shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """Each row and each column several times over."""
    rows, columns = op.attrs["factor"]

    def run(q: Integers) -> Integers:
        return q.repeat(rows, axis=2).repeat(columns, axis=3)

    return run
