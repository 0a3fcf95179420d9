"""Weights by the range coder: layouts beside the stream, then all weights in one stream of decisions."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding.arrays import weight_checksum
from stages.integer.coding.lanes import DecisionDecoder, DecisionEncoder
from stages.integer.coding.tensors import WeightLayout, WeightModel, code_weight, layout_of
from stages.integer.limits import MAX_ELEMENTS

STEPS = 1200
"""About how many steps the rows of a program's weights may take: what decodes in 0.2 s."""

_FIELDS = struct.Struct("<BhBBHBBH")  # dimensions, zero, flags, parts, lag, density, levels, crc

_UNSIGNED, _INPUTS, _SIGNS, _COLUMNS, _ALL, _KERNELS = 1, 2, 4, 8, 16, 32

MOST_PER_BYTE = 2**18
"""Elements that a byte of a stream may stand for: the least probability takes so little."""


def encode(weights: Sequence[tuple[NDArray[Any], int]]) -> tuple[bytes, DecisionEncoder]:
    """Code weights, int8 or uint8 (O, …), not empty, each with the level that is its zero.

    Returns:
        What the decoder needs before, and the stream, not finished.
    """
    total = sum(weight.size for weight, _ in weights) or 1
    side, encoder, model = [], DecisionEncoder(), WeightModel()
    for weight, zero in weights:
        layout = layout_of(weight, zero, max(48, STEPS * weight.size // total))
        side.append(_layout_to_bytes(layout, weight))
        code_weight(encoder, model, layout, weight)
    return b"".join(side), encoder


def decode(
    side: bytes, stream: bytes, lanes: int, count: int, taken: list[float] | None = None
) -> tuple[list[NDArray[Any]], bytes]:
    """The weights, and the lanes' payload; `taken` gets the bits of each. Raises ValueError for damage."""
    layouts, start = [], 0
    for _ in range(count):
        layout, checksum, start = _layout_from_bytes(side, start)
        layouts.append((layout, checksum))
    if start != len(side):
        raise ValueError(f"{len(side) - start} bytes more than the weights' layouts: the file is damaged")
    elements = sum(math.prod(layout.shape) for layout, _ in layouts)
    if elements > min(MAX_ELEMENTS, MOST_PER_BYTE * (len(stream) + len(side))):
        raise ValueError(f"{elements} weights in {len(stream)} bytes: the file is damaged")
    decoder = DecisionDecoder(stream, lanes, counts=taken is not None)
    model, weights = WeightModel(), []
    for index, (layout, checksum) in enumerate(layouts):
        weight = code_weight(decoder, model, layout, None)
        if weight_checksum(weight) != checksum:
            raise ValueError(f"weight {index} decodes to another than was coded: the file is damaged")
        weights.append(weight)
        if taken is not None:
            taken.append(decoder.bits - sum(taken))
    return weights, decoder.finish()


def _layout_to_bytes(layout: WeightLayout, weight: NDArray[Any]) -> bytes:
    bits = {
        _UNSIGNED: layout.levels.dtype == np.uint8,
        _INPUTS: layout.order == "inputs",
        _KERNELS: layout.order == "kernels",
        _SIGNS: layout.signs,
        _COLUMNS: layout.columns is not None,
        _ALL: layout.zero is None,
    }
    fields = _FIELDS.pack(
        len(layout.shape),
        layout.zero or 0,
        sum(bit for bit, there in bits.items() if there),
        layout.parts,
        layout.lag,
        layout.density,
        len(layout.levels) % 256,
        weight_checksum(weight),
    )
    shape = struct.pack(f"<{len(layout.shape)}I", *layout.shape)
    columns = b"" if layout.columns is None else np.packbits(layout.columns, bitorder="little").tobytes()
    return fields + shape + layout.levels.tobytes() + columns


def _layout_from_bytes(side: bytes, start: int) -> tuple[WeightLayout, int, int]:
    """A layout, its weight's checksum, and where the next begins."""

    def take(count: int) -> bytes:
        nonlocal start
        part = side[start : start + count]
        if len(part) < count:
            raise ValueError("the weights' layouts are cut off: the file is damaged")
        start += count
        return part

    dimensions, zero, bits, parts, lag, density, levels, checksum = _FIELDS.unpack(take(_FIELDS.size))
    shape = struct.unpack(f"<{dimensions}I", take(4 * dimensions))
    if not 2 <= dimensions <= 8 or not 0 < math.prod(shape) <= MAX_ELEMENTS:
        raise ValueError(f"a weight of shape {shape}: must have 1..{MAX_ELEMENTS} elements")
    dtype = np.dtype(np.uint8 if bits & _UNSIGNED else np.int8)
    limits = np.iinfo(dtype)
    whole = bool(bits & _ALL)
    own = np.frombuffer(take(levels or (256 if whole else 0)), dtype)
    if np.any(own[1:] <= own[:-1]) or bits >> 6 or (whole and not own.size):
        raise ValueError("a weight's levels do not ascend: the file is damaged")
    if not limits.min <= zero <= limits.max or parts < 1 or lag < 2 or (not whole and zero in own):
        raise ValueError(f"zero={zero}, parts={parts}, lag={lag}: the file is damaged")
    layout = WeightLayout(
        shape=shape,
        zero=None if whole else zero,
        levels=own,
        order="kernels" if bits & _KERNELS else "inputs" if bits & _INPUTS else "outputs",
        parts=parts,
        lag=lag,
        density=density,
        signs=bool(bits & _SIGNS),
    )
    if bits & _KERNELS and (dimensions < 3 or bits & _COLUMNS):
        raise ValueError(f"a weight of shape {shape} has no windows: the file is damaged")
    if bits & _COLUMNS:
        count = layout.grid[1]
        flags = np.unpackbits(np.frombuffer(take(-(-count // 8)), np.uint8), bitorder="little")
        layout = WeightLayout(**{**vars(layout), "columns": flags[:count].astype(np.bool_)})
    return layout, checksum, start
