"""What ``source/panel.h`` needs to know of a convolution, where products of two are added in 16 bits.

Levels ``x`` are taken apart into ``x − s = y + h`` with ``y`` in 0..127 and ``h`` 0 for nearly all. Products
``y·w`` of two levels never leave int16. Those of four do not either where the positive weights among the
four, and the negative ones, add up to no more than `MOST`: such dwords go in pairs.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.planner import Pins
from stages.backends.native_kernels.weights import DOT, VECTOR

LEVELS = 128
"""How many values y has."""

MOST = 32767 // (LEVELS - 1)
"""What weights of one sign among four may add up to: 127 · 258 = 32766."""

LEAST_VECTORS, LEAST_DWORDS, LEAST_AROUND = 4, 64, 128
"""What makes up for copying levels into a panel, and for its lists. Fewer dwords are faster with levels of 16
bits (`weights.pack_twos`), and so are more of them where h lies on both sides of the zero point."""

MOST_DWORDS = 2**15 - 1
"""Whose doubles 16 bits hold."""

ROUNDS = 4
"""Tries to find a partner for each dword."""


def level_offset(zero_point: int) -> int:
    """The offset s, 0..128: what lies around the zero point lies within s .. s + 127."""
    return min(max(zero_point - LEVELS // 2, 0), 256 - LEVELS)


def panel_fields(
    weight: NDArray[np.int64], bias: NDArray[np.int32], zero_point: int, pins: Pins
) -> tuple[tuple[str, Any], ...]:
    """Fields of the step; none where the window has more dwords than 15 bits count.

    Args:
        weight: (units, O, I, kH, kW), as the step has them: all units' windows are alike.
        bias: (units · O, in whole vectors), as the step has them.
        zero_point: of the levels, 0..255.
        pins: keeps the arrays.
    """
    units = [_split(unit) for unit in weight]
    vectors, dwords = units[0].shape[:2]
    offset = level_offset(zero_point)
    if vectors < LEAST_VECTORS or not (LEAST_AROUND if offset else LEAST_DWORDS) <= dwords <= MOST_DWORDS:
        return ()
    split = np.concatenate(units)
    order, pairs = pairing(split)
    places = np.argsort(order, axis=1)
    sums = weight.sum(axis=(2, 3, 4))
    sums = np.pad(sums, ((0, 0), (0, -sums.shape[1] % VECTOR))).reshape(-1)
    total = bias.astype(np.int64) + offset * sums
    packed = np.take_along_axis(split, order[:, :, None, None], axis=1)
    return (
        ("level_offset", offset),
        ("weight", pins(packed, ctypes.c_int8)),
        ("panel_bias", pins(total.astype(np.int32), ctypes.c_int32)),
        ("order", pins(np.stack([2 * order, places], axis=1), ctypes.c_uint16)),
        ("pairs", pins(pairs, ctypes.c_int32)),
    )


def _split(weight: NDArray[np.int64]) -> NDArray[np.int8]:
    """(O, I, kH, kW) to (vector, dword of the window, 16, 4)."""
    outputs, inputs = weight.shape[:2]
    padded = np.pad(weight, [(0, -outputs % VECTOR), (0, -inputs % DOT), (0, 0), (0, 0)]).astype(np.int8)
    split = padded.reshape(-1, VECTOR, padded.shape[1] // DOT, DOT, *padded.shape[2:])
    return split.transpose(0, 4, 5, 2, 1, 3).reshape(len(split), -1, VECTOR, DOT)


def pairing(weight: NDArray[np.int8]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """For each 16 output channels an order of the window's dwords, pairs first, and how many pairs.

    Neighbours are paired where they can be; those that are left try their neighbours among them.

    Args:
        weight: (vectors, dwords, 16, 4).

    Returns:
        (vectors, dwords) and (vectors,).
    """
    halves = weight.reshape(*weight.shape[:2], -1, 2).astype(np.int16)
    positive, negative = np.maximum(halves, 0).sum(axis=-1), np.maximum(-halves, 0).sum(axis=-1)
    lanes = np.concatenate([positive, negative], axis=-1)
    orders, counts = zip(*(_paired(one) for one in lanes), strict=True)
    return np.stack(orders), np.array(counts, np.int32)


def _paired(lanes: NDArray[np.int16]) -> tuple[NDArray[np.intp], int]:
    """The order of one vector's dwords from (dwords, lanes) sums of one sign."""
    left, found = np.arange(len(lanes)), []
    for turn in range(ROUNDS):
        first = turn % 2 if len(left) > 2 else 0
        even = len(left[first:]) // 2 * 2
        pairs = left[first : first + even].reshape(-1, 2)
        fits = (lanes[pairs[:, 0]] + lanes[pairs[:, 1]] <= MOST).all(axis=1)
        found.append(pairs[fits].reshape(-1))
        left = np.concatenate([left[:first], pairs[~fits].reshape(-1), left[first + even :]])
    paired = np.concatenate(found)
    return np.concatenate([paired, left]), len(paired) // 2
