"""Which weights are not 0, by the distance to the next (Han et al. 2016, arXiv 1510.00149, section 2).

A gap of b bits holds the number of zeros before a weight, up to ``2^b − 1``; where there are more, a zero is
stored as a weight, which pads: 2^b − 1 zeros and that one. The paper has 8 bits for convolutions, 5 for
linear layers.
"""

from __future__ import annotations

import numpy as np

from stages.integer.coding.lanes import Ints

MOST_BITS = 8


def to_gaps(places: Ints, bits: int) -> tuple[Ints, Ints]:
    """Gaps, and which of the places each leads to, −1 for a padding zero; both int64 (n + padding,).

    Args:
        places: ascending, of what is not 0, (n,).
        bits: b.
    """
    most = 1 << bits
    steps = np.diff(places, prepend=-1) - 1  # zeros before each
    padding = steps // most
    ends = np.cumsum(padding + 1)
    gaps = np.full(int(ends[-1]) if len(ends) else 0, most - 1, np.int64)
    leads = np.full(len(gaps), -1, np.int64)
    gaps[ends - 1] = steps - padding * most
    leads[ends - 1] = np.arange(len(places))
    return gaps, leads


def from_gaps(gaps: Ints, size: int) -> Ints:
    """The places that gaps lead to, padding zeros among them, int64 (n,).

    Raises:
        ValueError: they lead beyond `size`.
    """
    places: Ints = np.cumsum(gaps + 1) - 1
    if len(places) and int(places[-1]) >= size:
        raise ValueError(f"gaps lead to element {int(places[-1])} of {size}: the stream is damaged")
    return places


def gap_bits(places: Ints, size: int) -> int:
    """The b, 1 .. 8, that takes fewest bits before coding, of `size` weights with about 4 bits each."""
    behind = size - 1 - (int(places[-1]) if len(places) else -1)
    return min(
        range(1, MOST_BITS + 1),
        key=lambda bits: (len(to_gaps(places, bits)[0]) + (behind >> bits)) * (bits + 4),
    )
