"""softmax: exponentials of what is below the largest level, and their sum's reciprocal, in fixed point.

    d_i = M·(q_i − max q), 5 integer bits, M = s_x · 2^26          e_i = exp(d_i), Q0
    Σ = Σ e_i, 12 integer bits;  1/Σ = r · 2^−b                      y = −128 + round(r · e_i · 2^−(b+23))

Levels so far below the largest that d would leave its bits give −128. Source: reference/softmax.h, Softmax;
kernels/softmax_common.cc. The output has scale 1/256 and zero point −128.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stages.integer.fixed_point import quantize_multiplier, saturating_rounding_doubling_high_mul
from stages.integer.kernel import Kernel
from stages.integer.kernels import softmax
from stages.integer.profiles.tflm.gemmlowp import exp_on_negative_values, one_over_one_plus_x, shifted, times
from stages.integer.program import Integers, Op, Program

DIFFERENCE_BITS, SUM_BITS = 5, 12
"""Integer bits of differences and of their exponentials' sum."""


def difference_scaling(scale: float) -> tuple[int, int, int]:
    """Multiplier, shift and the largest difference of levels whose exponential counts."""
    real = min(scale * 2.0 ** (31 - DIFFERENCE_BITS), 2.0**31 - 1.0)
    multiplier, shift = (int(part) for part in quantize_multiplier(real))
    return multiplier, shift, math.floor((2**DIFFERENCE_BITS - 1) * 2.0 ** (31 - DIFFERENCE_BITS - shift))


def exponential_tables(scale: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Exponentials of the differences 0 .. 255, Q0, and their terms of the sum, 12 integer bits."""
    multiplier, shift, radius = difference_scaling(scale)
    below = -np.arange(256, dtype=np.int64)
    taken = below >= -radius
    scaled = saturating_rounding_doubling_high_mul(np.where(taken, below, 0) << shift, multiplier)
    exponentials = exp_on_negative_values(scaled.astype(np.int64), DIFFERENCE_BITS)
    return np.where(taken, exponentials, 0), np.where(taken, shifted(exponentials, -SUM_BITS), 0)


def prepare(op: Op, program: Program) -> Kernel:
    """Exponentials by a table over the 256 differences, then one reciprocal a row."""
    x, y, axis = program.values[op.inputs[0]], program.values[op.output], op.attrs["axis"] + 1
    if len(op.inputs) > 1:  # leaves entries out: TFLite has no such operator
        return softmax.prepare(op, program)
    if (y.scale, y.zero_point) != (1 / 256, np.iinfo(y.dtype).min):
        raise ValueError(f"'{op.output}' (softmax): TFLite's has scale 1/256 and its least level for zero")
    exponentials, terms = exponential_tables(x.scale)
    least = np.iinfo(y.dtype).min

    def run(q: Integers) -> Integers:
        index = q.max(axis=axis, keepdims=True).astype(np.int16) - q
        total: NDArray[np.int64] = terms[index].sum(axis=axis, keepdims=True)
        bits = np.frexp(total.astype(np.float64))[1]  # of the sum, which is at least 2^19
        reciprocal = one_over_one_plus_x((total << (32 - bits)) - (1 << 31))
        over = SUM_BITS - (32 - bits)
        levels = _rounded(times(reciprocal, exponentials[index]), over + 23)
        return np.clip(levels + least, op.attrs["act_min"], op.attrs["act_max"]).astype(y.dtype)

    return run


def _rounded(a: NDArray[np.int64], bits: NDArray[np.int32]) -> NDArray[np.int64]:
    """``a · 2^-bits`` for a ≥ 0, half away from zero."""
    half: NDArray[np.int64] = (np.int64(1) << bits.astype(np.int64)) >> 1
    return (a + half) >> bits
