"""insert_zeros: ``factor − 1`` rows and columns of `zero_point`, real zeros, between those of each image.

A transposed convolution of that stride is a plain convolution over the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(C, f·(H−1) + 1, g·(W−1) + 1): nothing after the last row and column."""
    if len(shapes[0]) != 3 or 0 in shapes[0]:
        raise ValueError(f"input of shape {shapes[0]}: must be (C, H, W), not empty")
    sizes = zip(shapes[0][1:], op.attrs["factor"], strict=True)
    height, width = (factor * (size - 1) + 1 for size, factor in sizes)
    return (shapes[0][0], height, width)


SIGNATURE = Signature(attrs=("factor",), ratios="none", shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """Levels written at steps of `factor`."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    rows, columns = op.attrs["factor"]

    def run(q: Integers) -> Integers:
        result = np.full_like(q, x.zero_point, shape=(len(q), *y.shape))
        result[:, :, ::rows, ::columns] = q
        return result

    return run
