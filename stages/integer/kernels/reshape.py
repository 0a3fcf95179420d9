"""reshape: the same levels in another shape, in row-major order of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """``shape`` itself."""
    shape: Shape = tuple(op.attrs["shape"])
    if math.prod(shape) != math.prod(shapes[0]) or any(size < 0 for size in shape):
        raise ValueError(f"shape={shape}: must have the {math.prod(shapes[0])} elements of {shapes[0]}")
    return shape


SIGNATURE = Signature(attrs=("shape",), ratios="none", view=True, shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A view where the memory order allows it."""
    shape = op.attrs["shape"]

    def run(q: Integers) -> Integers:
        return q.reshape(len(q), *shape)

    return run
