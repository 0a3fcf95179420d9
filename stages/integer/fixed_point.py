"""Fixed-point multiplication by a real ratio, as gemmlowp and TFLite's reference define it.

A ratio is held as ``real = multiplier · 2^(shift − 31)``, ``multiplier`` an int32 in ``[2^30, 2^31)``, and
applied by *double rounding*: once by the doubling high product, once by the division by a power of two:

    rounding_divide_by_pot(saturating_rounding_doubling_high_mul(sat(x · 2^left), multiplier), right)

with ``left = max(shift, 0)`` and ``right = max(−shift, 0)``. All results are int32 and nothing wraps: where C
code overflows in ``x · 2^left`` (undefined there), the product saturates here. Sources: gemmlowp
fixedpoint.h, TFLite's kernels/internal/common.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def quantize_multiplier(real: ArrayLike) -> tuple[Int32, Int32]:
    """Ratios ≥ 0, any shape, to ``(multiplier, shift)`` of that shape.

    Zero, and what would need ``shift < −31`` (it moves no int32 off zero), become ``(0, 0)``.

    Raises:
        ValueError: a ratio that is negative, not finite, or needs ``shift > 30``.
    """
    real = np.asarray(real, dtype=np.float64)
    wrong = ~np.isfinite(real) | (real < 0)
    if wrong.any():
        raise ValueError(f"ratio {real[wrong].flat[0]}: must be finite and not negative; check the scales")
    fraction, exponent = np.frexp(real)
    rounded = np.floor(fraction * 2.0**31 + 0.5)
    carry = rounded == 2.0**31
    shift = exponent + carry
    if (shift > 30).any():
        raise ValueError(
            f"ratio {real[shift > 30].flat[0]}: must be below 2^30, the most that a shift can express; "
            "check the scales"
        )
    held = (shift >= -31) & (real > 0)
    multiplier = np.where(held, np.where(carry, 2.0**30, rounded), 0).astype(np.int32)
    return multiplier, np.where(held, shift, 0).astype(np.int32)


def saturating_rounding_doubling_high_mul(a: ArrayLike, b: ArrayLike) -> Int32:
    """``round(a · b / 2^31)``, ties towards +∞; int32 in and out.

    Only INT32_MIN · INT32_MIN leaves int32; it saturates to INT32_MAX.
    """
    product = np.asarray(a, dtype=np.int64) * np.asarray(b, dtype=np.int64)
    high: Int64 = (product + 2**30) >> 31
    return np.minimum(high, INT32_MAX).astype(np.int32)


def rounding_divide_by_pot(x: ArrayLike, exponent: ArrayLike) -> Int32:
    """``round(x / 2^exponent)``, ties away from zero; int32 in and out, exponent 0..31."""
    x = np.asarray(x, dtype=np.int64)
    exponent = np.asarray(exponent, dtype=np.int64)
    half = (np.int64(1) << exponent) >> 1
    quotient: Int64 = (x + half - ((x < 0) & (exponent > 0))) >> exponent
    return quotient.astype(np.int32)


def multiply_by_quantized_multiplier(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> Int32:
    """``x · multiplier · 2^(shift − 31)`` with double rounding; int32 in and out, operands broadcast."""
    shift = np.asarray(shift, dtype=np.int64)
    shifted = np.asarray(x, dtype=np.int64) << np.maximum(shift, 0)
    saturated = np.clip(shifted, INT32_MIN, INT32_MAX)
    high = saturating_rounding_doubling_high_mul(saturated, multiplier)
    return rounding_divide_by_pot(high, np.maximum(-shift, 0))


def fused_multiply(multiplier: Int32, shift: Int32) -> Callable[[Int32], Int64]:
    """`multiply_by_quantized_multiplier` with fixed ratios, bit for bit, in fewer passes.

    Nested floors of integer shifts merge, ``⌊(⌊a / 2^31⌋ + c) / 2^n⌋ = ⌊(a + c · 2^31) / 2^(31+n)⌋``, and the
    sign that the second rounding asks for may be that of ``x``, so that the two roundings are

        (x · multiplier + 2^30 + 2^31 · (2^(n−1) − [x < 0])) >> (31 + n)        for n = −shift > 0

    in int64, where all terms stay below 2^63.

    Args:
        multiplier: int32, (1,) or (O,), not negative.
        shift: int32, the shape of `multiplier`, −31..30.

    Returns:
        A function from int32 (O, L) — of any shape where there is one ratio — to int64 of that shape,
        with values of int32 range.
    """
    left, right = np.maximum(shift, 0).astype(np.int64), np.maximum(-shift, 0).astype(np.int64)
    half = (np.int64(1) << right) >> 1
    factor, left_by, right_by = column(multiplier.astype(np.int64)), column(left), column(right + 31)
    nudge = column(2**30 + (half << 31))
    sign_bit = column(np.where(shift < 0, INT32_MIN, 0).astype(np.int32))
    shifts_left = bool(left.any())

    def multiply(x: Int32) -> Int64:
        if shifts_left:
            x = np.clip(x.astype(np.int64) << left_by, INT32_MIN, INT32_MAX).astype(np.int32)
        product: Int64 = np.multiply(x, factor, dtype=np.int64)
        product += x & sign_bit  # −2^31 where x < 0 and there is a second rounding
        product += nudge
        product >>= right_by
        return product

    return multiply


def column(a: NDArray[Any]) -> Any:
    """(O,) as (O, 1); one number as a Python int, which broadcasts to any shape."""
    return int(a[0]) if a.size == 1 else a.reshape(-1, 1)
