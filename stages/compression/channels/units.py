"""Units: channels that stay or go together, as classes of a union-find.

A layer adds the channels of its value as units of their own. What reads values of as many channels element
by element joins them, in pairs; what cannot be followed lets them stay, with a reason, which all that is or
comes to be joined shares (the coupling of DepGraph, Fang et al. 2023, arXiv 2301.12900).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UnitIds = NDArray[np.int64]
"""Units by number, (channels,)."""


class Units:
    """All units of a network."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> UnitIds:
        """`count` units that nothing is joined to yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def join(self, first: UnitIds, second: UnitIds) -> None:
        """Let the units of each pair stay or go together."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            one, other = sorted((self._root(a), self._root(b)))
            if one != other:
                self._parents[other] = one
                if (reason := self._reasons.pop(other, None)) is not None:
                    self._reasons.setdefault(one, reason)

    def join_all(self, ids: UnitIds) -> None:
        """Let all of them stay or go together."""
        self.join(ids[:-1], ids[1:])

    def stay(self, ids: UnitIds, reason: str) -> None:
        """Let them stay; the first reason is kept."""
        for unit in ids.tolist():
            self._reasons.setdefault(self._root(unit), reason)

    def roots(self, ids: UnitIds) -> UnitIds:
        """The least unit that each is joined to: equal where they go together."""
        return np.array([self._root(unit) for unit in ids.tolist()], dtype=np.int64)

    def reasons(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Why they stay, each reason once; none for those that may go."""
        found = (self._reasons.get(self._root(int(unit))) for unit in ids)
        return tuple(dict.fromkeys(reason for reason in found if reason is not None))

    def _root(self, unit: int) -> int:
        root = unit
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[unit] != root:
            self._parents[unit], unit = root, self._parents[unit]
        return root


@dataclass(frozen=True, kw_only=True)
class Channels:
    """The channels of one value.

    Args:
        axis: the dimension of one sample along which they lie.
        ids: the unit of each, (n,).
        rest: what all of a channel's elements are once its unit is gone, (n,) float64; NaN where they are
            not one number that is known.
    """

    axis: int
    ids: UnitIds
    rest: NDArray[np.float64]
