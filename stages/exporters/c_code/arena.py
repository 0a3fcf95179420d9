"""Where values lie in one block of memory, whose parts are used again once their values are dead.

A buffer lives from the step that writes it to the last that reads it. Buffers are placed from the largest to
the smallest, each at the lowest offset where it meets none that lives at the same time (Pisarchyk and Lee,
*Efficient Memory Management for Deep Neural Net Inference*, 2020, greedy by size).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALIGNMENT = 4
"""Bytes: wide levels are int32."""


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """A buffer's size in bytes, and the first and the last step at which it is in use."""

    size: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Each buffer's offset in bytes, a multiple of `ALIGNMENT`, and the whole size."""

    offsets: Mapping[str, int]
    size: int


def plan(buffers: Mapping[str, Lifetime]) -> Arena:
    """Offsets at which no two buffers overlap that are in use at the same step."""
    offsets: dict[str, int] = {}
    for name in sorted(buffers, key=lambda name: -buffers[name].size):
        own, offset = buffers[name], 0
        for other in sorted(offsets, key=offsets.__getitem__):
            met = buffers[other].first <= own.last and own.first <= buffers[other].last
            if met and offsets[other] < offset + own.size and offset < offsets[other] + buffers[other].size:
                end = offsets[other] + buffers[other].size
                offset = -(-end // ALIGNMENT) * ALIGNMENT
        offsets[name] = offset
    size = max((offsets[name] + buffer.size for name, buffer in buffers.items()), default=0)
    return Arena(offsets=offsets, size=-(-size // ALIGNMENT) * ALIGNMENT)
