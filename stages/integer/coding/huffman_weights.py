"""Weights as Deep Compression stores them (Han et al. 2016): gaps and levels, each by a Huffman code.

A weight with few zeros has no gaps: all its levels are coded.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding.arrays import weight_checksum
from stages.integer.coding.gaps import MOST_BITS, from_gaps, gap_bits, to_gaps
from stages.integer.coding.huffman import code_lengths, decode_symbols, encode_symbols
from stages.integer.coding.lanes import Ints
from stages.integer.limits import MAX_ELEMENTS

_FIELDS = struct.Struct("<BBhBBIH")  # dimensions, unsigned, zero, bits of a gap, levels - 1, codes, checksum


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """A weight as the paper's table counts it.

    Args:
        levels: those of its codes, ascending; among them zero, which pads.
        bits: of a gap; 0 where there are none.
        codes: how many there are, padding among them.
        index_bits: Huffman bits of all gaps.
        weight_bits: Huffman bits of all levels.
    """

    levels: NDArray[Any]
    bits: int
    codes: int
    index_bits: int
    weight_bits: int


def encode(weights: Sequence[tuple[NDArray[Any], int]]) -> tuple[bytes, bytes, list[Sparse]]:
    """Code weights, int8 or uint8 (O, …), not empty, each with the level that is its zero.

    Returns:
        What the decoder needs before; the stream; what each weight took.
    """
    side, streams, found = [], [], []
    for weight, zero in weights:
        flat = weight.ravel()
        places = np.flatnonzero(flat != zero)
        bits = gap_bits(places, flat.size) if len(places) < 0.9 * flat.size else 0
        gaps, leads = to_gaps(places, bits) if bits else (np.zeros(0, np.int64), np.arange(flat.size))
        if bits:  # zeros at the end too, so that codes say how large a weight is
            behind = (flat.size - 1 - (int(places[-1]) if len(places) else -1)) >> bits
            gaps = np.concatenate([gaps, np.full(behind, (1 << bits) - 1)])
            leads = np.concatenate([leads, np.full(behind, -1)])
        values = (
            flat
            if not bits
            else np.where(leads < 0, zero, flat[np.append(places, 0)[leads]]).astype(flat.dtype)
        )
        levels, index = np.unique(values, return_inverse=True)
        if not levels.size:
            levels = np.array([zero], flat.dtype)
        lengths = [code_lengths(np.bincount(index.ravel(), minlength=len(levels)))]
        coded = [encode_symbols(index.ravel(), lengths[0])]
        if bits:
            lengths.insert(0, code_lengths(np.bincount(gaps, minlength=1 << bits)))
            coded.insert(0, encode_symbols(gaps, lengths[0]))
        fields = (
            weight.ndim,
            flat.dtype == np.uint8,
            zero,
            bits,
            len(levels) - 1,
            len(values),
            weight_checksum(weight),
        )
        side.append(_FIELDS.pack(*fields) + struct.pack(f"<{weight.ndim}I", *weight.shape))
        side.append(levels.tobytes() + b"".join(own.astype(np.uint8).tobytes() for own in lengths))
        streams += coded
        index_bits = len(coded[0]) if bits else 0
        found.append(
            Sparse(
                levels=levels, bits=bits, codes=len(values), index_bits=index_bits, weight_bits=len(coded[-1])
            )
        )
    stream = np.concatenate(streams) if streams else np.zeros(0, np.uint8)
    return b"".join(side), np.packbits(stream).tobytes(), found


def decode(side: bytes, stream: bytes, count: int) -> list[NDArray[Any]]:
    """The weights. Raises ValueError where anything is damaged."""
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))
    start, weights = 0, []
    for number in range(count):
        if len(side) - start < _FIELDS.size:
            raise ValueError("the weights' layouts are cut off: the file is damaged")
        dimensions, unsigned, zero, gap, last, codes, checksum = _FIELDS.unpack_from(side, start)
        start += _FIELDS.size
        sizes = (4 * dimensions, last + 1, (1 << gap) if gap else 0, last + 1)
        if gap > MOST_BITS or not 2 <= dimensions <= 8 or len(side) - start < sum(sizes):
            raise ValueError("the weights' layouts are cut off: the file is damaged")
        parts = []
        for size in sizes:
            parts.append(side[start : start + size])
            start += size
        shape = struct.unpack(f"<{dimensions}I", parts[0])
        if not 0 < math.prod(shape) <= MAX_ELEMENTS or (not gap and codes != math.prod(shape)):
            raise ValueError(f"a weight of shape {shape}, {codes} codes: the file is damaged")
        if gap and math.prod(shape) > (codes + 1) << gap:
            raise ValueError(f"a weight of shape {shape}, {codes} codes: the file is damaged")
        levels = np.frombuffer(parts[1], np.uint8 if unsigned else np.int8)
        if not np.iinfo(levels.dtype).min <= zero <= np.iinfo(levels.dtype).max:
            raise ValueError(f"zero={zero}: must be a level; the file is damaged")
        gaps: Ints = np.zeros(0, np.int64)
        if gap:
            gaps, taken = decode_symbols(bits, _lengths(parts[2]), codes)
            bits = bits[taken:]
        index, taken = decode_symbols(bits, _lengths(parts[3]), codes)
        bits = bits[taken:]
        weight = np.full(math.prod(shape), zero, levels.dtype)
        weight[from_gaps(gaps, weight.size) if gap else slice(None)] = levels[index]
        weight = weight.reshape(shape)
        if weight_checksum(weight) != checksum:
            raise ValueError(f"weight {number} decodes to another than was coded: the file is damaged")
        weights.append(weight)
    if start != len(side) or len(bits) >= 8 or bits.any():
        raise ValueError("bits beyond the last weight: the file is damaged")
    return weights


def _lengths(raw: bytes) -> Ints:
    return np.frombuffer(raw, np.uint8).astype(np.int64)
