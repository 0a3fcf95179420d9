"""Numbers below k as decisions, bit by bit from the highest, each with the odds behind the bits so far."""

from __future__ import annotations

import numpy as np

from stages.integer.coding.lanes import BITS, Ints
from stages.integer.coding.mixing import FLOOR
from stages.integer.coding.rows import DecisionCoder


def code_symbols(coder: DecisionCoder, count: int, k: int, lanes: int, known: Ints | None) -> Ints:
    """Numbers below `k`, int64 (count,).

    Args:
        coder: to, or from.
        count: how many.
        k: at least 1, at most 256.
        lanes: numbers a step, at most.
        known: what to code; None decodes.

    Raises:
        ValueError: what was decoded is not below `k`.
    """
    bits = max(k - 1, 0).bit_length()
    found = np.zeros(count, np.int64)
    if not bits:
        return found
    ones = np.ones(1 << bits, np.int64)  # of what was decided behind each prefix, and all of it, twice
    both = 2 * ones
    for start in range(0, count, lanes):
        here = slice(start, min(start + lanes, count))
        prefix = np.ones(here.stop - here.start, np.int64)
        for bit in range(bits - 1, -1, -1):
            p = ((ones << BITS) // both)[prefix].clip(FLOOR, (1 << BITS) - FLOOR)
            p[(((prefix << 1) | 1) << bit) - (1 << bits) >= k] = FLOOR  # there is no such number
            decided = coder.code(p, None if known is None else (known[here] >> bit & 1).astype(np.bool_))
            both += 2 * np.bincount(prefix, minlength=len(both))
            ones += 2 * np.bincount(prefix[decided], minlength=len(both))
            prefix = (prefix << 1) | decided
        found[here] = prefix - (1 << bits)
    if count and int(found.max()) >= k:
        raise ValueError(f"index {int(found.max())}: must be below {k}, of levels; the stream is damaged")
    return found
