"""Fixed-point multiplication that rounds once, as TFLite's kernels do under ``TFLITE_SINGLE_ROUNDING``.

The ratio is that of `stages.integer.fixed_point`, ``real = multiplier · 2^(shift − 31)``, but the product
keeps its 64 bits until one shift, which rounds ties towards +∞:

    sat((x · multiplier + 2^(30 − shift)) >> (31 − shift))

With ``shift`` in −31..30 all terms stay below 2^63. The result can leave int32 only where ``shift > 0``; it
saturates there, where the C code asserts. Source: TFLite's kernels/internal/common.cc.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from stages.integer.fixed_point import INT32_MAX, INT32_MIN, Int32, Int64, column


def multiply_by_quantized_multiplier_single(x: ArrayLike, multiplier: ArrayLike, shift: ArrayLike) -> Int32:
    """``x · multiplier · 2^(shift − 31)``, rounded once; int32 in and out, operands broadcast."""
    shift = np.asarray(shift, dtype=np.int64)
    product = np.asarray(x, dtype=np.int64) * np.asarray(multiplier, dtype=np.int64)
    rounded: Int64 = (product + (np.int64(1) << (30 - shift))) >> (31 - shift)
    return np.clip(rounded, INT32_MIN, INT32_MAX).astype(np.int32)


def fused_multiply_single(multiplier: Int32, shift: Int32) -> Callable[[Int32], Int64]:
    """`multiply_by_quantized_multiplier_single` with fixed ratios; as `fixed_point.fused_multiply`."""
    factor = column(multiplier.astype(np.int64))
    right_by = column(31 - shift.astype(np.int64))
    half = column(np.int64(1) << (30 - shift.astype(np.int64)))
    grows = bool((shift > 0).any())

    def multiply(x: Int32) -> Int64:
        product: Int64 = np.multiply(x, factor, dtype=np.int64)
        product += half
        product >>= right_by
        return np.clip(product, INT32_MIN, INT32_MAX, out=product) if grows else product

    return multiply
