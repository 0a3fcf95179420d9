"""Weights in the order in which the engine reads them, and what their zero points add to biases.

Over unsigned levels qx of a padded image, with ``zx`` in the padding,

    ``Σ (qx−zx)(qw−zw) + bias = Σ qx·qw − zw·Σ qx + [bias − zx·Σ (qw−zw)]``

The engine computes the first two sums; the bracket is its bias. Where ``qw−zw`` fits int8, as with weights of
less than 8 bits, it takes the place of qw, and there is no second sum. An instruction set that multiplies
signed bytes only has ``Σ (qx−128)·qw`` as its first sum, and ``128·Σ qw`` more in its bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.program import Op

DOT = 4
"""Products that an instruction adds up."""

VECTOR = 16
"""Accumulators of an instruction."""

DEPTHWISE_CHANNELS = 64


def levels(op: Op) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weights (O, I/groups, kH, kW) in −128..127, and their zero points (O,), 0 wherever that can be."""
    weight = op.tensors["weight"].astype(np.int64)
    zero_point = np.broadcast_to(op.tensors["weight_zero_point"].astype(np.int64), len(weight))
    weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
    centred = weight - zero_point.reshape(-1, 1, 1, 1)
    fits = np.logical_and(centred >= -128, centred <= 127).all(axis=(1, 2, 3))
    offset = np.where(fits, zero_point, 128 if op.tensors["weight"].dtype == np.uint8 else 0)
    return weight - offset.reshape(-1, 1, 1, 1), zero_point - offset


def bias(
    op: Op,
    weight: NDArray[np.int64],
    zero_point: NDArray[np.int64],
    input_zero_point: int,
    lacking: NDArray[np.int64] | int = 0,
) -> NDArray[np.int32]:
    """The bracket above, (O,) and zeros to fill the last vectors; wraps as sums in int32 do.

    Args:
        op: has the bias.
        weight: (O, I/groups, kH, kW), as `levels` gives them.
        zero_point: (O,), of those weights.
        input_zero_point: zx.
        lacking: (O,), what the engine's first sum lacks.
    """
    centred = weight - zero_point.reshape(-1, 1, 1, 1)
    total = op.tensors["bias"].astype(np.int64) - input_zero_point * centred.sum(axis=(1, 2, 3))
    return fill(total + lacking, 0, DEPTHWISE_CHANNELS).astype(np.int32)


def pack(weight: NDArray[np.int64]) -> NDArray[np.int8]:
    """(O, I, kH, kW) to (block, kH, kW, I/4, vector, 16, 4), in blocks of 4 vectors, at the end 2 and 1."""
    padded = fill(fill(weight, 0, VECTOR), 1, DOT)
    outputs, inputs, height, width = padded.shape
    split = padded.reshape(outputs // VECTOR, VECTOR, inputs // DOT, DOT, height, width)
    return _blocks(split.transpose(0, 4, 5, 2, 1, 3)).astype(np.int8)  # vector, kH, kW, I/4, 16, 4


def pack_twos(weight: NDArray[np.int64]) -> NDArray[np.int8]:
    """As `pack`, with 16 bits a weight and two a dword: the bytes of (block, kH, kW, I/2, vector, 16, 2)."""
    padded = fill(fill(weight, 0, VECTOR), 1, DOT)
    outputs, inputs, height, width = padded.shape
    split = padded.reshape(outputs // VECTOR, VECTOR, inputs // 2, 2, height, width)
    return _blocks(split.transpose(0, 4, 5, 2, 1, 3)).astype(np.int16).view(np.int8)


def pack_depthwise(centred: NDArray[np.int64]) -> tuple[NDArray[np.int8], int]:
    """(C, 1, kH, kW) with zero points subtracted, to 64 channels × (pass, kW, kH/4, vector, 16, 4).

    What does not fit int8 is split into addends that do, a pass each. Vector q holds in its 128-bit lane L
    the channels ``16·L + 4·q .. + 3``, as the engine's interleaving of bytes leaves them.

    Returns:
        The weights and the number of passes.
    """
    padded = fill(fill(centred[:, 0], 0, DEPTHWISE_CHANNELS), 1, DOT)
    parts: list[NDArray[np.int64]] = []
    while not parts or padded.any():
        parts.append(np.clip(padded, -128, 127))
        padded = padded - parts[-1]
    channels, height, width = padded.shape
    split = np.stack(parts).reshape(len(parts), channels // 64, 4, 4, 4, height // DOT, DOT, width)
    # pass, block, lane, vector, channel in lane, kH/4, row, kW
    ordered = split.transpose(1, 0, 7, 5, 3, 2, 4, 6)
    return ordered.reshape(-1).astype(np.int8), len(parts)


def _blocks(vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """(vector, kH, kW, dword, 16, …) in blocks of 4 vectors, at the end 2 and 1, which lie dword by dword."""
    blocks, start = [], 0
    while start < len(vectors):
        count = next(count for count in (4, 2, 1) if start + count <= len(vectors))
        blocks.append(np.moveaxis(vectors[start : start + count], 0, 3).reshape(-1))
        start += count
    return np.concatenate(blocks)


def fill(a: NDArray[Any], axis: int, multiple: int) -> NDArray[Any]:
    """Zeros behind, up to a multiple."""
    pads = [(0, 0)] * a.ndim
    pads[axis] = (0, -a.shape[axis] % multiple)
    return np.pad(a, pads)
