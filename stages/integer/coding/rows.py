"""Where a matrix is 0, row by row: each decision with the odds of its row, its column and what is beside it.

Rows have an order in which neighbours resemble each other (pixels that a unit reads, input channels), and may
have two: a row of an image's pixels is like the last, and like the one above, `lag` rows before. Signs may be
coded with it: those of weights that read neighbouring pixels are mostly equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding.lanes import BITS, Ints
from stages.integer.coding.mixing import FLOOR, Mixer, stretch_table

Flags = NDArray[np.bool_]

STRENGTH = 4
"""How many decisions the whole's estimate counts for, in that of a row, a column or a context."""

LANES = 256
"""Decisions a step, where they have no place in rows."""

CONTEXTS = 64
SUMS = 5
"""Sums of neighbours' signs, −2 .. 2."""


class DecisionCoder(Protocol):
    """An encoder, to which decisions are given, or a decoder, which gives them."""

    def code(self, p: Ints, decisions: Flags | None) -> Flags:
        """One step: probabilities of 1, of 2^15, (n,), and the decisions where they are known."""


def _first_steps() -> Mixer:
    return Mixer((0.4, 0.0, 0.3, 0.3, 0.0, 0.0, 0.0), 17)


def _other_steps() -> Mixer:
    return Mixer((0.4, 0.4, 0.3, 0.3, -0.4, 0.0, 0.0), 17)


def _first_of_kernels() -> Mixer:
    return Mixer((0.2, 0.0, 0.3, 0.3, -0.6, 0.4, 0.4), 17)


def _others_of_kernels() -> Mixer:
    return Mixer((0.2, 0.2, 0.3, 0.3, -0.8, 0.4, 0.4), 17)


@dataclass(kw_only=True)
class OccupancyModel:
    """What is learned from one matrix to the next: weights of column, row, two contexts, the whole, channels.

    Args:
        first: in a row's first step, when nothing is known of the row.
        others: in its others.
    """

    first: Mixer = field(default_factory=_first_steps)
    others: Mixer = field(default_factory=_other_steps)
    first_of_kernels: Mixer = field(default_factory=_first_of_kernels)
    others_of_kernels: Mixer = field(default_factory=_others_of_kernels)


class _Counts:
    """How often decisions were 1, by context."""

    def __init__(self, contexts: int) -> None:
        self._seen = np.zeros((2, contexts), np.int64)

    def odds(self, prior: int) -> Ints:
        """Probabilities of 1, of 2^15, (contexts,)."""
        odds: Ints = ((self._seen[1] << BITS) + STRENGTH * prior) // (self._seen[0] + STRENGTH)
        return odds

    def learn(self, context: Ints, decided: Flags) -> None:
        """Count what was decided, in which contexts."""
        contexts = self._seen.shape[1]
        self._seen[0] += np.bincount(context, minlength=contexts)
        self._seen[1] += np.bincount(context[decided], minlength=contexts)


def code_occupancy(
    coder: DecisionCoder,
    model: OccupancyModel,
    shape: tuple[int, int],
    *,
    parts: int,
    lag: int,
    density: int,
    signs: bool,
    channels: tuple[int, int] | None = None,
    known: NDArray[np.int8] | None,
) -> NDArray[np.int8]:
    """Where a matrix is not 0, int8 (rows, columns): 1, or with `signs` 1 and −1.

    A step codes every `parts`-th column of a row, so that a row's odds are known from its second step on.

    Args:
        coder: to, or from.
        model: goes on learning.
        shape: of the matrix.
        parts: steps a row.
        lag: rows to the one above, at least 2.
        density: a first guess of the share, of 2^15.
        signs: whether signs are coded.
        known: what to code; None decodes.
    """
    rows, columns = shape
    stretch = stretch_table()
    border = lag + 2
    found = np.zeros((rows + border, columns + 1), np.int64)
    ones = np.zeros(columns, np.int64)  # of each column, so far
    near, several, signed = _Counts(CONTEXTS), _Counts(CONTEXTS), _Counts(3 * SUMS)
    balance = np.zeros(columns, np.int64)
    kernels = None if channels is None else np.divmod(np.arange(columns), channels[1])
    sides = [] if channels is None else [_Counts(size) for size in channels]
    total = seen = 0
    for row in range(rows):
        r = row + border
        beside = np.abs(found[[r - 1, r - 2, r - lag, r - lag - 1, r - lag + 1], 1:])
        contexts = beside[0] + (beside[1] << 1) + (beside[2] << 2) + ((beside[3] | beside[4]) << 3)
        prior = (STRENGTH * 8 * density + (total << BITS)) // (STRENGTH * 8 + seen)
        of_columns = stretch[((ones << BITS) + STRENGTH * prior) // (row + STRENGTH)]
        # up to 5 neighbours, by how full the column is
        fullness = np.searchsorted((-400, -200, -60, 60, 200, 400), of_columns - stretch[prior])
        counts = beside.sum(axis=0) + 6 * fullness
        own = own_ones = 0
        for part in range(min(parts, columns)):
            here = slice(part, columns, parts)
            context, count = contexts[here], counts[here]
            if part:
                left = np.abs(found[r, part::parts])[: len(context)]
                context = context + (left << 4) + 32
            n = len(context)
            inputs = np.zeros((7, n), np.int64)
            inputs[0] = of_columns[here]
            inputs[1] = stretch[((own_ones << BITS) + STRENGTH * prior) // (own + STRENGTH)]
            inputs[2] = stretch[near.odds(prior)[context]]
            inputs[3] = stretch[several.odds(prior)[count]]
            inputs[4] = stretch[prior]
            mixer = model.others if part else model.first
            if kernels is not None:
                mixer = model.others_of_kernels if part else model.first_of_kernels
                for place, (own_counts, channel) in enumerate(zip(sides, kernels, strict=True)):
                    inputs[5 + place] = stretch[own_counts.odds(prior)[channel[here]]]
            decided = coder.code(mixer.mix(inputs), None if known is None else known[row, here] != 0)
            mixer.learn(decided)
            found[r, 1:][here] = decided
            ones[here] += decided
            near.learn(context, decided)
            several.learn(count, decided)
            if kernels is not None:
                for own_counts, channel in zip(sides, kernels, strict=True):
                    own_counts.learn(channel[here], decided)
            own, own_ones = own + n, own_ones + int(np.count_nonzero(decided))
        total, seen = total + own_ones, seen + own
        if not signs:
            continue
        (all_there,) = np.nonzero(found[r, 1:])
        for start in range(0, len(all_there), LANES):
            there = all_there[start : start + LANES]
            around = found[[r - 1, r - 2, r - lag, r - lag - 1, r - lag + 1], 1:][:, there]
            context = around.sum(axis=0).clip(-2, 2) + 2 + SUMS * (np.sign(balance[there]) + 1)
            p = signed.odds(1 << (BITS - 1))[context].clip(FLOOR, (1 << BITS) - FLOOR)
            positive = coder.code(p, None if known is None else known[row, there] > 0)
            signed.learn(context, positive)
            own_signs = np.where(positive, 1, -1)
            found[r, 1:][there] = own_signs
            balance[there] += own_signs
    return found[border:, 1:].astype(np.int8)
