"""Numbers below k as decisions, bit by bit from the highest, each with the odds behind the bits so far."""

from __future__ import annotations

import numpy as np

from stages.integer.coding.lanes import BITS, Ints
from stages.integer.coding.mixing import FLOOR
from stages.integer.coding.rows import LANES, DecisionCoder

KEPT = 48
"""How many numbers of one weight count in the next, at most."""


class SymbolModel:
    """What is learned of numbers from one weight to the next: ones and decisions, by k, context, prefix."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], Ints] = {}

    def start(self, k: int, contexts: int, size: int) -> Ints:
        """Counts, doubled, (2, contexts · size), as the weight before has left them."""
        old = self._seen.get((k, contexts))
        if old is None:
            seen = np.ones((2, contexts * size), np.int64)
            seen[1] *= 2
            return seen
        roots = np.arange(contexts) * size + 1
        slower = np.repeat(np.maximum(old[1][roots] // (2 * KEPT), 1), size)
        return np.stack([1 + (old[0] - 1) // slower, 2 + (old[1] - 2) // slower])

    def keep(self, k: int, contexts: int, seen: Ints) -> None:
        """Remember counts."""
        self._seen[k, contexts] = seen


def code_symbols(
    coder: DecisionCoder, model: SymbolModel, k: int, context: Ints, contexts: int, known: Ints | None
) -> Ints:
    """Numbers below `k`, int64 (n,).

    Args:
        coder: to, or from.
        model: goes on learning.
        k: at least 1, at most 256.
        context: of each number, below `contexts`, (n,).
        contexts: how many there are.
        known: what to code; None decodes.

    Raises:
        ValueError: what was decoded is not below `k`.
    """
    bits, count = max(k - 1, 0).bit_length(), len(context)
    found = np.zeros(count, np.int64)
    if not bits or not count:
        return found
    size = 1 << bits
    seen = model.start(k, contexts, size)
    ones, both = seen
    for start in range(0, count, LANES):
        here = slice(start, min(start + LANES, count))
        prefix = np.ones(here.stop - here.start, np.int64)
        offset = context[here] * size
        for bit in range(bits - 1, -1, -1):
            place = offset + prefix
            p = ((ones[place] << BITS) // both[place]).clip(FLOOR, (1 << BITS) - FLOOR)
            p[(((prefix << 1) | 1) << bit) - size >= k] = FLOOR  # there is no such number
            decided = coder.code(p, None if known is None else (known[here] >> bit & 1).astype(np.bool_))
            both += 2 * np.bincount(place, minlength=len(both))
            ones += 2 * np.bincount(place[decided], minlength=len(both))
            prefix = (prefix << 1) | decided
        found[here] = prefix - size
    model.keep(k, contexts, seen)
    if count and int(found.max()) >= k:
        raise ValueError(f"index {int(found.max())}: must be below {k}, of levels; the stream is damaged")
    return found
