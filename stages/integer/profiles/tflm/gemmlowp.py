"""gemmlowp's fixed-point functions, vectorized over int64 arrays that hold int32.

A number with i integer bits is ``raw · 2^(i−31)``; *Q0* has none. Source: gemmlowp/fixedpoint/fixedpoint.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

Raw = NDArray[Any]

ONE = INT32_MAX
"""1 in Q0, less its last bit."""

_EXP_OF_POWERS = (
    (-2, 1672461947),  # exp(−1/4) in Q0
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)


def times(a: Raw | int, b: Raw | int) -> Raw:
    """The product of two numbers: as many integer bits as both have."""
    product: Raw = saturating_rounding_doubling_high_mul(a, b).astype(np.int64)
    return product


def shifted(a: Raw, bits: int) -> Raw:
    """``a · 2^bits``: saturating to the left, rounding half away from zero to the right."""
    left: Raw = np.clip(a << max(bits, 0), INT32_MIN, INT32_MAX)
    return left if bits >= 0 else rounding_divide_by_pot(a, -bits).astype(np.int64)


def exp_on_negative_values(a: Raw, integer_bits: int) -> Raw:
    """exp(a) in Q0, for a ≤ 0 with up to 5 integer bits."""
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    rest = (a & (quarter - 1)) - quarter
    result = _exp_near_zero(shifted(rest, integer_bits))
    whole = rest - a
    for exponent, factor in _EXP_OF_POWERS:
        if integer_bits > exponent:
            result = np.where(whole & (1 << (fraction + exponent)), times(result, factor), result)
    return np.where(a == 0, ONE, result)


def _exp_near_zero(a: Raw) -> Raw:
    """exp(a) for a in [−1/4, 0), Q0 to Q0: the Taylor series around −1/8 to the fourth power."""
    constant, third = 1895147668, 715827883  # exp(−1/8), 1/3
    x = a + (1 << 28)
    x2 = times(x, x)
    x3, x4 = times(x2, x), times(x2, x2)
    tail = shifted(times(shifted(x4, -2) + x3, third) + x2, -1)
    return constant + times(constant, x + tail)


def one_over_one_plus_x(a: Raw) -> Raw:
    """``1 / (1 + a)`` for a in [0, 1], Q0 to Q0, by three steps of Newton."""
    total = a + ONE
    denominator = (total + np.where(total >= 0, 1, -1)) // 2  # positive here: no difference to truncation
    x = 1515870810 + times(denominator, -1010580540)  # 48/17 − 32/17·d, with two integer bits
    for _ in range(3):
        x = x + shifted(times(x, (1 << 29) - times(denominator, x)), 2)
    return shifted(x, 1)


def logistic(a: Raw, integer_bits: int) -> Raw:
    """``1 / (1 + exp(−a))`` in Q0."""
    positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    return np.where(a == 0, 1 << 30, np.where(a < 0, ONE - positive, positive))


def tanh(a: Raw, integer_bits: int) -> Raw:
    """tanh(a) in Q0."""
    e = exp_on_negative_values(-np.abs(a), integer_bits + 1)
    total = e + ONE
    denominator = (total + 1) // 2
    x = 1515870810 + times(denominator, -1010580540)
    for _ in range(3):
        x = x + shifted(times(x, (1 << 29) - times(denominator, x)), 2)
    positive = shifted(x - (1 << 29), 2)  # (1 − e) / (1 + e) = 2 / (1 + e) − 1
    return np.where(a == 0, 0, np.where(a < 0, -positive, positive))
