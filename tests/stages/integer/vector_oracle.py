"""The C code of the fixed-point primitives over int64 arrays, statement by statement.

No formula is shared with `stages.integer`: division truncates as in C, remainders are compared with
thresholds, and what C code shifts out of int32 is found before it is shifted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]

MIN, MAX = -(2**31), 2**31 - 1


def high_mul(a: Array, b: Array) -> Array:
    """SaturatingRoundingDoublingHighMul."""
    product = a * b
    nudged = product + np.where(product >= 0, 2**30, 1 - 2**30)
    truncated = np.where(nudged >= 0, np.abs(nudged) >> 31, -(np.abs(nudged) >> 31))
    return np.where((a == MIN) & (b == MIN), MAX, truncated)


def divide_by_pot(x: Array, exponent: Array) -> Array:
    """RoundingDivideByPOT."""
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def fixed_multiply(x: Array, multiplier: Array, shift: Array) -> Array:
    """MultiplyByQuantizedMultiplier, its left shift saturating."""
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    too_large, too_small = x > (MAX >> left), x < -(2**31 >> left)
    shifted = np.where(too_large, MAX, np.where(too_small, MIN, x << left))
    return divide_by_pot(high_mul(shifted, multiplier), right)


def single_multiply(x: Array, multiplier: Array, shift: Array) -> Array:
    """MultiplyByQuantizedMultiplier under TFLITE_SINGLE_ROUNDING, saturating where it asserts."""
    product, total_shift = x * multiplier, 31 - shift
    remainder = product & ((np.int64(1) << total_shift) - 1)
    quotient = product >> total_shift
    rounded = quotient + (remainder >= np.int64(1) << (total_shift - 1))
    return np.where(rounded > MAX, MAX, np.where(rounded < MIN, MIN, rounded))
