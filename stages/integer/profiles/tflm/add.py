"""add: both operands brought to one scale with 20 more bits, added, and brought to the output's.

    t = 2·max(s_1, s_2)
    a_i = M(s_i / t) · (q_i − z_i)·2^20          y = clamp(zy + M(t / (2^20·s_y)) · (a_1 ± a_2))

M multiplies with double rounding. Source: reference/add.h, AddElementwise; kernels/add.cc.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stages.integer.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier
from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program

LEFT_SHIFT = 20

Sum = Callable[[NDArray[np.int32], NDArray[np.int32]], NDArray[np.int32]]


def prepare(op: Op, program: Program) -> Kernel:
    """A sum of two operands. Raises ValueError for more."""
    return scaled_sum(op, program, np.add)


def scaled_sum(op: Op, program: Program, combine: Sum) -> Kernel:
    """The sum or difference that `combine` forms of both operands, scaled as the module says."""
    if len(op.inputs) != 2:
        raise ValueError(f"'{op.output}' ({op.op}): has {len(op.inputs)} inputs; TFLite adds two")
    first, second, y = (program.values[name] for name in (*op.inputs, op.output))
    twice = 2.0 * max(first.scale, second.scale)
    ratios = [quantize_multiplier(x.scale / twice) for x in (first, second)]
    last = quantize_multiplier(twice / (2.0**LEFT_SHIFT * y.scale))
    low, high = op.attrs["act_min"], op.attrs["act_max"]

    def scaled(q: Integers, index: int) -> NDArray[np.int32]:
        centred = q.astype(np.int32) - np.int32((first, second)[index].zero_point)
        return multiply_by_quantized_multiplier(centred << LEFT_SHIFT, *ratios[index])

    def run(a: Integers, b: Integers) -> Integers:
        levels = multiply_by_quantized_multiplier(combine(scaled(a, 0), scaled(b, 1)), *last)
        return np.clip(levels + y.zero_point, low, high).astype(y.dtype)

    return run
