"""Weights of 4 bits, two to a byte, where a layer takes less time for it.

What takes 4 bits is the range of a channel's weights, wherever it lies: with its least weight m as another
zero point, ``w − zw = (w − m) − (zw − m)``, and ``w − m`` is within 0..15. So the engine has weights without
a sign, and does with the zero points what it does with any.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.planner import Pins
from stages.backends.native_kernels.weights import DOT, fill, pack

MOST = 15

EACH = 2 * DOT
"""Input channels whose weights lie in a vector of bytes."""

LEAST_WEIGHTS = 2**16
"""Least of a layer: fewer are near enough, and taking them apart and sums of levels cost more than they save
(0.8 to 1 times as fast)."""

LEAST_PROGRAM = 2**20
"""Least of all layers: fewer stay in a second-level cache from sample to sample, and pixels wait for products
(0.9 to 1 times as fast), but for `FEW_PIXELS`. For what comes from further off `MORE_PIXELS` wait (1.2 to 1.5
times as fast; AVX-VNNI 0.9 to 1.5), and `MOST_PIXELS` where the layer alone is `LARGE` (1 to 1.3)."""

FEW_PIXELS, MORE_PIXELS, MOST_PIXELS = 3, 8, 64

LARGE = 2**24

LEAST_PRODUCTS = 48
"""Least of an output, where products of 8 bits saturate and those of 4 do not (AVX2): layers with as many
gain by that, wherever their weights are."""


def as_nibbles(
    weight: NDArray[np.int64], zero_point: NDArray[np.int64], pixels: int, pins: Pins
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Weights within 0..15 and the zero points that they then have; None where there is no gain, or no way.

    Args:
        weight: (O, I/groups, kH, kW), as `levels` gives them.
        zero_point: (O,), of those weights.
        pixels: of the output.
        pins: of which engine and program.
    """
    if not _gains(weight, pixels, pins):
        return None
    least = weight.min(axis=(1, 2, 3))
    if (weight.max(axis=(1, 2, 3)) - least > MOST).any():
        return None
    return weight - least.reshape(-1, 1, 1, 1), zero_point - least


def nibble_fields(units: NDArray[np.int64], pins: Pins) -> tuple[tuple[str, Any], ...]:
    """Fields of a convolution, beside its `channels`.

    Args:
        units: (units, O, I, kH, kW) within 0..15.
        pins: keeps the array.
    """
    packed = np.concatenate([pack_nibbles(unit) for unit in units])
    return (("nibbles", 1), ("weight", pins(packed, ctypes.c_int8)))


def channels_read(inputs: int, packed: bool) -> int:
    """How many channels a step reads, with weights of zero behind: as many as fill a vector of weights."""
    each = EACH if packed else DOT
    return -(-inputs // each) * each


def pack_nibbles(weight: NDArray[np.int64]) -> NDArray[np.int8]:
    """Bytes in the order of `pack`: four input channels in their low halves, four more in the high ones."""
    padded = fill(weight, 1, EACH)
    fours = padded.reshape(len(padded), -1, 2, DOT, *padded.shape[2:])
    shape = (len(padded), -1, *padded.shape[2:])
    low, high = pack(fours[:, :, 0].reshape(shape)), pack(fours[:, :, 1].reshape(shape))
    return low | high << 4


def _gains(weight: NDArray[np.int64], pixels: int, pins: Pins) -> bool:
    if weight.shape[1] <= DOT:  # half of each dword would be zeros
        return False
    if pins.panels:
        return bool(weight[0].size >= LEAST_PRODUCTS)
    if pins.program_weights < LEAST_PROGRAM:
        most = FEW_PIXELS
    else:
        most = MOST_PIXELS if weight.size >= LARGE else MORE_PIXELS
    return weight.size >= LEAST_WEIGHTS and pixels <= most
