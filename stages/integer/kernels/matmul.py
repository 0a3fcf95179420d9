"""matmul: ``y = clamp(zy + rescale(Σ_k (qa−za)[…, i, k] (qb−zb)[…, k, j]))``: a product of two values.

Dimensions before the last two are as many on both sides, and broadcast as numpy's do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.bounds import FLOAT32_EXACT
from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import finisher, rescaler
from stages.integer.signature import Shape, Signature
from stages.integer.sums import check_sum, span, sum_bound


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(…, I, J), of (…, I, K) and (…, K, J)."""
    a, b = shapes
    fits = len(a) == len(b) >= 2 and a[-1] == b[-2]
    if not fits or any(m != n and 1 not in (m, n) for m, n in zip(a[:-2], b[:-2], strict=True)):
        raise ValueError(f"inputs of shapes {a} and {b}: must be (…, I, K) and (…, K, J)")
    return (*(n if m == 1 else m for m, n in zip(a[:-2], b[:-2], strict=True)), a[-2], b[-1])


def bound(op: Op, program: Program) -> int:
    """All products at their largest."""
    a, b = (program.values[name] for name in op.inputs)
    return a.shape[-1] * span(a) * span(b)


SIGNATURE = Signature(inputs=(2, 2), shape=output_shape, bound=bound)


def prepare(op: Op, program: Program) -> Kernel:
    """One BLAS product a matrix, in the float type in which its sums are exact."""
    check_sum(op, program)
    dtype = np.dtype(np.float32 if sum_bound(op, program) < FLOAT32_EXACT else np.float64)
    rescale, finish = rescaler(op, program), finisher(op, program)
    first, second = (dtype.type(program.values[name].zero_point) for name in op.inputs)

    def run(a: Integers, b: Integers) -> Integers:
        sums = np.matmul(a.astype(dtype) - first, b.astype(dtype) - second)
        return finish(rescale(sums.astype(np.int32)))

    return run
