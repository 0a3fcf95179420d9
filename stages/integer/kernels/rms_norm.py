"""rms_norm along one dimension, `axis`, in int64 whatever the program's requantization; n values c = q − z:

    D = max(2^20·Σ c² + epsilon, floor)
    r = ⌊√(D·4^j)⌋                      j the largest with D·4^j < 2^62, so that 2^30 ≤ r < 2^31
    u = ⌊(c·2^(j+41) + r) / (2·r)⌋      2^10·c/√D in steps of 2^-30, rounded to nearest
    y = clamp(zy + ((u·gamma + 2^(shift−1)) >> shift))

``2^10·c/√D = x / √(Σ x² + n·eps)`` with ``epsilon = rint(2^20·n·eps / s_x²)``: for the root of the mean
square, `gamma` is ``rint(√n·γ / s_y · 2^(shift−30))``. A Euclidean norm that is at least eps has epsilon 0,
``floor = 2^20·(eps / s_x)²``, at least 1, and no √n in gamma. Before the last rounding a result is off by at
most ``2^-23`` of the largest that it can be, and by what the rounding of epsilon adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.kernels.layer_norm import GAMMA_BITS, scaled_root
from stages.integer.program import Integers, Op, Program, Value
from stages.integer.signature import Shape, Signature, tensor_of

SPREAD_BITS = 20
"""Bits of D below the steps of Σ c²."""

MAX_SIZE = 2**16
"""The most values that are normalized together: 2^20·Σ c² stays below 2^53."""

MAX_EPSILON = 2**61
"""What epsilon and floor stay below."""


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The input's."""
    shape, axis = shapes[0], op.attrs["axis"]
    if not 0 <= axis < len(shape) or not 1 <= shape[axis] <= MAX_SIZE:
        raise ValueError(f"axis={axis} of an input of shape {shape}: must be a dimension of 1..{MAX_SIZE}")
    return shape


def check(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """Integers small enough for int64's sums."""
    gamma = tensor_of(op, "gamma", np.int32, (inputs[0].shape[op.attrs["axis"]],))
    if max(-int(gamma.min()), int(gamma.max())) > 2**GAMMA_BITS:
        raise ValueError(f"gamma spans {gamma.min()}..{gamma.max()}: must be within ±2^{GAMMA_BITS}")
    for name, least in (("epsilon", 0), ("floor", 1)):
        if not least <= op.attrs[name] < MAX_EPSILON:
            raise ValueError(f"{name}={op.attrs[name]}: must be {least}..2^61-1")
    if not 1 <= op.attrs["shift"] <= 62:
        raise ValueError(f"shift={op.attrs['shift']}: must be 1..62")


SIGNATURE = Signature(
    attrs=("axis", "epsilon", "floor", "shift"), ratios="own", shape=output_shape, check=check
)


def prepare(op: Op, program: Program) -> Kernel:
    """A sum of squares and a square root a row, a division a value."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    a, axis = op.attrs, op.attrs["axis"] + 1
    gamma = op.tensors["gamma"].astype(np.int64).reshape(-1, *[1] * (len(x.shape) - axis))
    half = np.int64(1) << np.int64(a["shift"] - 1)
    low, high = a["act_min"] - y.zero_point, a["act_max"] - y.zero_point

    def run(q: Integers) -> Integers:
        c = q.astype(np.int64) - x.zero_point
        squares = np.square(c).sum(axis=axis, keepdims=True) << SPREAD_BITS
        root, power = scaled_root(np.maximum(squares + a["epsilon"], a["floor"]))
        units = ((c << (power + 41)) + root) // (2 * root)
        levels = np.clip((units * gamma + half) >> a["shift"], low, high)
        result: Integers = (levels + y.zero_point).astype(y.dtype)
        return result

    return run
