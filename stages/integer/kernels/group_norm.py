"""group_norm over groups of channels and all that follows, in int64 whatever the program's requantization.

Of n values c = q − z of a group, with b = ⌈⌈log2 n⌉ / 2⌉ and k = 44 − 2·⌈log2 n⌉:

    d = n·c − Σ c                       D = max(2^k·(n·Σ c² − (Σ c)²) + epsilon, 1)
    r = ⌊√(D·4^j)⌋                      j the largest with D·4^j < 2^62, so that 2^30 ≤ r < 2^31
    u = ⌊(d·2^(k/2+j+31−b) + r) / (2·r)⌋
    y = clamp(zy + ((u·gamma + beta + 2^(shift−1)) >> shift))

u is ``(x − mean) / √(variance + eps)``, which is √n at the most, in steps of 2^(b−30), rounded to nearest,
with ``epsilon = rint(2^k·n²·eps / s_x²)``. Each channel has a `gamma`, ``rint(γ·2^b / s_y · 2^(shift−30))``,
and a `beta`, ``rint(β / s_y · 2^shift)``. Before the last rounding a result is off by at most
``2^(b−21)·max|γ| / s_y`` levels, and by what the rounding of epsilon adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.kernels.layer_norm import BETA_BITS, GAMMA_BITS, scaled_root
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.signature import Shape, Signature, tensor_of

MAX_SIZE = 2**20
"""The most values that are normalized together: D stays below 2^62."""


def size_of(shape: Shape, groups: int) -> int:
    """n: how many values a group has."""
    return math.prod(shape) // groups


def spread_bits(size: int) -> int:
    """k, even: bits of D below the steps of the variance of `size` values."""
    return 44 - 2 * (size - 1).bit_length()


def unit_bits(size: int) -> int:
    """b, the least with ``√n ≤ 2^b``."""
    return ((size - 1).bit_length() + 1) // 2


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The input's."""
    shape, groups = shapes[0], op.attrs["groups"]
    if not shape or shape[0] % groups:
        raise ValueError(f"groups={groups}: must divide the channels of its input {shape}")
    if not 1 <= size_of(shape, groups) <= MAX_SIZE:
        raise ValueError(f"groups={groups} of an input {shape}: must have 1..{MAX_SIZE} values each")
    return shape


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """Integers small enough for int64's sums."""
    for name, dtype, bits in (("gamma", np.int32, GAMMA_BITS), ("beta", np.int64, BETA_BITS)):
        tensor = tensor_of(op, name, dtype, (y.shape[0],))
        if max(-int(tensor.min()), int(tensor.max())) > 2**bits:
            raise ValueError(f"{name} spans {tensor.min()}..{tensor.max()}: must be within ±2^{bits}")
    if not 0 <= op.attrs["epsilon"] < 2**61:
        raise ValueError(f"epsilon={op.attrs['epsilon']}: must be 0..2^61-1")
    if not 1 <= op.attrs["shift"] <= 62:
        raise ValueError(f"shift={op.attrs['shift']}: must be 1..62")


SIGNATURE = Signature(attrs=("groups", "epsilon", "shift"), ratios="own", shape=output_shape, check=check)


def prepare(op: Op, program: Program) -> Kernel:
    """Sums over each group, a square root a group, a division a value."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    groups, shift = op.attrs["groups"], op.attrs["shift"]
    size = size_of(x.shape, groups)
    k, b = spread_bits(size), unit_bits(size)
    rows = (groups, x.shape[0] // groups, -1)
    gamma = op.tensors["gamma"].astype(np.int64).reshape(*rows[:2], 1)
    offset = (op.tensors["beta"] + (1 << (shift - 1))).reshape(*rows[:2], 1)

    def run(q: Integers) -> Integers:
        c = q.reshape(len(q), *rows).astype(np.int64) - x.zero_point
        total = c.sum(axis=(2, 3), keepdims=True)
        spread = size * np.square(c).sum(axis=(2, 3), keepdims=True) - total * total
        root, power = scaled_root(np.maximum((spread << k) + op.attrs["epsilon"], 1))
        u = (((size * c - total) << (k // 2 + power + 31 - b)) + root) // (2 * root)
        levels = ((u * gamma + offset) >> shift) + y.zero_point
        clamped: Integers = np.clip(levels, op.attrs["act_min"], op.attrs["act_max"]).astype(y.dtype)
        return clamped.reshape(q.shape)

    return run
