"""Probabilities of decisions, in integers alone, so that every machine decodes the same.

Estimates are mixed where they add up, as log-odds (Mahoney 2005, PAQ): with ``stretch(p) = ln(p / (1 − p))``,

    ``p = squash(Σ w_i · stretch(p_i))``,   ``w_i += η · stretch(p_i) · (d − p)``

after each step, summed over its decisions d. Where an estimate is that of a row, another that of a column and
a third that of the whole, weights 1, 1, −1 are what independent rows and columns would have.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding.lanes import BITS, ONE, Ints

UNIT = 256
"""Steps of log-odds for 1."""

LIMIT = 2600
"""The largest log-odds, in steps: beyond what 15 bits hold."""

FLOOR = 6
"""The least probability, of 2^15."""

WEIGHT = 16
"""Bits behind the point of a weight."""


@cache
def stretch_table() -> Ints:
    """By probability p, of 2^15: its log-odds in steps, int64 (2^15,)."""
    odds = (round(UNIT * math.log((p or 0.5) / (ONE - (p or 0.5)))) for p in range(ONE))
    return np.array([min(max(value, -LIMIT), LIMIT) for value in odds], np.int64)


@cache
def squash_table() -> Ints:
    """By log-odds in steps, from −LIMIT: the probability, of 2^15, int64 (2·LIMIT + 1,)."""
    raw = (round(ONE / (1.0 + math.exp(-step / UNIT))) for step in range(-LIMIT, LIMIT + 1))
    return np.array([min(max(p, FLOOR), ONE - FLOOR) for p in raw], np.int64)


CALM = 64
"""Decisions of a step that move the weights; of more, each moves them less."""


class Mixer:
    """Weights of a few estimates.

    Args:
        weights: where they start.
        rate: η, as a shift: larger is slower.
    """

    def __init__(self, weights: tuple[float, ...], rate: int) -> None:
        self._weights = np.array([round(w * 2**WEIGHT) for w in weights], np.int64)
        self._rate = rate
        self._squash = squash_table()

    def mix(self, stretched: Ints) -> Ints:
        """Log-odds in steps, (i, n), to probabilities of 2^15, (n,)."""
        self._last = stretched
        dot = (self._weights @ stretched) >> WEIGHT
        np.clip(dot, -LIMIT, LIMIT, out=dot)
        dot += LIMIT
        p: Ints = self._squash[dot]
        self._p = p
        return p

    def learn(self, decisions: NDArray[np.bool_]) -> None:
        """Move the weights by what was decided after `mix`."""
        error = (decisions.astype(np.int64) << BITS) - self._p
        moved = (self._last @ error) >> self._rate
        self._weights += moved if len(error) <= CALM else moved * CALM // len(error)
