"""layer_norm over the last dimension, in int64 whatever the program's requantization, n values c = q − z:

    d = n·c − Σ c                       D = max(2^10·Σ (d / 2^narrow)² + epsilon, 1)
    r = ⌊√(D·4^j)⌋                      j the largest with D·4^j < 2^62, so that 2^30 ≤ r < 2^31
    u = ⌊(d·2^(j+36−narrow) + r) / (2·r)⌋      2^(5−narrow)·d/√D in steps of 2^-30, rounded to nearest
    y = clamp(zy + ((u·gamma + beta + 2^(shift−1)) >> shift))

``2^(5−narrow)·d/√D = (x − mean) / √(variance + eps) / √n`` with
``epsilon = rint(2^10·n³·eps / s_x² / 4^narrow)``; `narrow` is 0 for inputs of 8 bits, and for wide ones the
bits by which d is cut, away from zero, so that int64 holds the sum of its squares. `gamma` is
``rint(√n·γ / s_y · 2^(shift−30))``, `beta` is ``rint(β / s_y · 2^shift)``. Before the last rounding a result
is off by at most ``2^-22 · √n·max|γ| / s_y`` levels for n ≥ 32; for smaller n, the rounding of epsilon adds
``2^-12 / (n·(n−1))`` of the value itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.signature import Shape, Signature, tensor_of

UNIT_BITS = 30
"""Bits of u, which lies within −2^30..2^30."""

SPREAD_BITS = 10
"""Bits of D, below the steps of Σ d²: they tell epsilon apart where n is small."""

GAMMA_BITS = 24
BETA_BITS = 61
"""Magnitudes that gamma and beta stay below, so that no sum leaves int64."""

MAX_SIZE = 2**12
"""The most values that are normalized together: 2^10·Σ d² ≤ n³·2^24 stays below 2^61."""


def narrowing(x: Value) -> int:
    """The bits by which d is cut: the least that bring ``2^10·n³·4^b``, for levels of b bits, below 2^61."""
    size, bits = x.shape[-1], (x.quant_max - x.quant_min).bit_length()
    excess = SPREAD_BITS + 3 * math.log2(size) + 2 * bits - 61
    return max(0, math.ceil(excess / 2)) if x.wide else 0


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The input's."""
    shape = shapes[0]
    if not shape or not 1 <= shape[-1] <= MAX_SIZE:
        raise ValueError(f"input of shape {shape}: the last dimension must be 1..{MAX_SIZE}")
    return shape


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """Integers small enough for int64's sums."""
    size = inputs[0].shape[-1]
    for name, dtype, bits in (("gamma", np.int32, GAMMA_BITS), ("beta", np.int64, BETA_BITS)):
        tensor = tensor_of(op, name, dtype, (size,))
        if max(-int(tensor.min()), int(tensor.max())) > 2**bits:
            raise ValueError(f"{name} spans {tensor.min()}..{tensor.max()}: must be within ±2^{bits}")
    epsilon, shift = op.attrs["epsilon"], op.attrs["shift"]
    if not 0 <= epsilon < 2**61:
        raise ValueError(f"epsilon={epsilon}: must be 0..2^61-1")
    if not 1 <= shift <= 62:
        raise ValueError(f"shift={shift}: must be 1..62")
    if op.attrs["narrow"] != narrowing(inputs[0]):
        raise ValueError(
            f"narrow={op.attrs['narrow']}: must be {narrowing(inputs[0])} for its input's levels"
        )


SIGNATURE = Signature(
    attrs=("epsilon", "shift", "narrow"), ratios="own", stream=True, shape=output_shape, check=check
)


def prepare(op: Op, program: Program) -> Kernel:
    """Sums along the last dimension, a square root a row, a division a value."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    size, shift, narrow = x.shape[-1], op.attrs["shift"], op.attrs["narrow"]
    gamma, offset = op.tensors["gamma"].astype(np.int64), op.tensors["beta"] + (1 << (shift - 1))

    def run(q: Integers) -> Integers:
        centred = q.astype(np.int64) - x.zero_point
        d = size * centred - centred.sum(axis=-1, keepdims=True)
        cut = np.where(d > 0, -(-d >> narrow), d >> narrow) if narrow else d
        squares = (cut * cut).sum(axis=-1, keepdims=True)
        spread = np.maximum((squares << SPREAD_BITS) + op.attrs["epsilon"], 1)
        root, power = scaled_root(spread)
        u = ((d << (power + UNIT_BITS + 1 + SPREAD_BITS // 2 - narrow)) + root) // (2 * root)
        levels = ((u * gamma + offset) >> shift) + y.zero_point
        clamped: Integers = np.clip(levels, op.attrs["act_min"], op.attrs["act_max"]).astype(y.dtype)
        return clamped

    return run


def scaled_root(x: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``⌊√(x·4^j)⌋`` for 0 < x < 2^62, and j, the largest with ``x·4^j < 2^62``."""
    power = (62 - _bit_length(x)) // 2
    return _square_root(x << (2 * power)), power


def _bit_length(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """The least b with ``x < 2^b``, for x > 0."""
    bits = np.frexp(x.astype(np.float64))[1].astype(np.int64)
    return bits - (x < (np.int64(1) << (bits - 1)))  # where float64 rounded x up to a power of two


def _square_root(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """``⌊√x⌋`` for 0 < x < 2^62: float64's is off by one at the most."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    return root
