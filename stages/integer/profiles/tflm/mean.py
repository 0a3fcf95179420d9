"""mean: ``y = clamp(zy + M' · Σ (q−z))``, the division by the number n of levels within the multiplier.

    (multiplier, shift) = s_x / s_y,  e = min(⌊log2 n⌋, 32, 31 + shift)
    M' = (⌊multiplier · 2^e / n⌋, shift − e)

M' has less than 31 significant bits. Source: reference/reduce.h, QuantizedMeanOrSum. A sum, whose ratio has
no division, is computed as in ``fixed_point``.
"""

from __future__ import annotations

import numpy as np

from stages.integer.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier
from stages.integer.kernel import Kernel
from stages.integer.kernels import mean
from stages.integer.kernels.mean import count
from stages.integer.program import Integers, Op, Program
from stages.integer.sums import check_sum


def dividing(op: Op, program: Program) -> tuple[int, int] | None:
    """Multiplier and shift of a mean; None for a sum, or whatever else the ratio holds."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    size = count(op, program)
    own = x.scale / (y.scale * size)
    if abs(float(op.tensors["ratio"][0]) - own) > 1e-6 * own:
        return None
    multiplier, shift = (int(part) for part in quantize_multiplier(x.scale / y.scale))
    extra = min(size.bit_length() - 1, 32, 31 + shift)
    return (multiplier << extra) // size, shift - extra


def prepare(op: Op, program: Program) -> Kernel:
    """A sum in int32."""
    check_sum(op, program)
    x, y = program.values[op.inputs[0]], program.values[op.output]
    size = count(op, program)
    ratio = dividing(op, program)
    if ratio is None:
        return mean.prepare(op, program)
    multiplier, shift = ratio
    axes = tuple(axis + 1 for axis in op.attrs["axes"])
    zero = np.int32(size * x.zero_point)
    low, high = op.attrs["act_min"], op.attrs["act_max"]

    def run(q: Integers) -> Integers:
        sums = q.sum(axis=axes, dtype=np.int32, keepdims=op.attrs["keepdim"]) - zero
        levels = multiply_by_quantized_multiplier(sums, multiplier, shift)
        return np.clip(levels + y.zero_point, low, high).astype(y.dtype)

    return run
