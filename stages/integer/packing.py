"""Weights on disk, in as few bits as tell their levels apart.

``tensor[i] = levels[index i]``, or ``levels[0] + index i`` where `levels` has but one entry: weights of
b bits use consecutive levels, those of a codebook 2^b of their own. The indices form a stream of bits in
which element i has bits ``i·b .. i·b + b − 1``, and bit j of the stream is bit ``j mod 8`` of byte
``⌊j/8⌋``, the lowest first: with 4 bits, the first element is in the low half of the first byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Packed:
    """An int8 or uint8 tensor, packed.

    Args:
        shape: of the tensor.
        bits: of an index, 1..7.
        indices: the stream, uint8 (⌈n·bits/8⌉,).
        levels: ascending, in the tensor's dtype: (2..2^bits,), or the first of consecutive ones (1,).
    """

    shape: tuple[int, ...]
    bits: int
    indices: NDArray[np.uint8]
    levels: NDArray[Any]

    @property
    def nbytes(self) -> int:
        """What it takes on disk, but for a line of JSON."""
        return self.indices.nbytes + self.levels.nbytes


def pack(tensor: NDArray[Any]) -> Packed | None:
    """The smaller of both forms; None where neither is smaller than the tensor, or it is not of 8 bits."""
    if tensor.dtype not in (np.int8, np.uint8) or not tensor.size:
        return None
    used, index = np.unique(tensor, return_inverse=True)
    consecutive = _packed(tensor, tensor.ravel().astype(np.int16) - used[0], used[:1])
    codebook = _packed(tensor, index.ravel(), used) if used.size > 1 else consecutive
    smaller = min(consecutive, codebook, key=lambda packed: packed.nbytes)
    return smaller if smaller.nbytes < tensor.nbytes else None


def unpack(packed: Packed) -> NDArray[Any]:
    """The tensor. Raises ValueError where the parts do not belong together."""
    count, bits = int(np.prod(packed.shape, dtype=np.int64)), packed.bits
    if not 1 <= bits <= 7 or packed.indices.shape != (-(-count * bits // 8),) or not packed.levels.size:
        raise ValueError(
            f"{count} indices of bits={bits} do not fit a stream of {packed.indices.nbytes} bytes and "
            f"{packed.levels.size} levels: the file is damaged, or of another program"
        )
    stream = np.unpackbits(packed.indices, count=count * bits, bitorder="little")
    index = np.packbits(stream.reshape(count, bits), axis=1, bitorder="little")[:, 0]
    if packed.levels.size == 1:
        tensor = (packed.levels.astype(np.int16) + index).astype(packed.levels.dtype)
    else:
        if int(index.max(initial=0)) >= packed.levels.size:
            raise ValueError(f"index {index.max()}: must be below {packed.levels.size}, the number of levels")
        tensor = packed.levels[index]
    return tensor.reshape(packed.shape)


def stored_bytes(tensor: NDArray[Any]) -> int:
    """What a tensor takes on disk."""
    packed = pack(tensor)
    return tensor.nbytes if packed is None else packed.nbytes


def _packed(tensor: NDArray[Any], index: NDArray[Any], levels: NDArray[Any]) -> Packed:
    bits = max(int(index.max()).bit_length(), 1)
    stream = np.unpackbits(index.astype(np.uint8)[:, None], axis=1, count=bits, bitorder="little")
    return Packed(
        shape=tensor.shape, bits=bits, indices=np.packbits(stream, bitorder="little"), levels=levels
    )
