"""Histograms to look at: the fine bins of `Statistics`, cut to the observed range and merged to a few."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stages.quant.statistics import Statistics

MOST_BINS = 128


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of observations by bin.

    Args:
        edges: float64 (n + 1,), ascending, within the extremes.
        counts: int64 (n,).
        minimum, maximum: the extremes of the observations.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    minimum: float
    maximum: float

    def share_outside(self, low: float, high: float) -> float:
        """The share of observations below `low` or above `high`; a bin's are taken to lie evenly in it."""
        total = int(self.counts.sum())
        if total == 0 or (low <= self.minimum and self.maximum <= high):
            return 0.0
        cumulative = np.concatenate([[0.0], np.cumsum(self.counts, dtype=np.float64)])
        below, up_to = np.interp([low, high], self.edges, cumulative)
        return float(below + total - up_to) / total

    def merged(self, most: int = MOST_BINS) -> Histogram:
        """At most `most` bins of about one width over the observed range, each a whole number of these."""
        occupied = np.flatnonzero(self.counts)
        if not occupied.size:
            return self
        first, last = int(occupied[0]), int(occupied[-1]) + 1
        wanted = np.linspace(self.edges[first], self.edges[last], most, endpoint=False)
        starts = np.unique(np.searchsorted(self.edges[first:last], wanted, side="right") - 1) + first
        return replace(
            self,
            edges=self.edges[[*starts, last]],
            counts=np.add.reduceat(self.counts[:last], starts),
        )


def histogram_of(statistics: Statistics) -> Histogram | None:
    """The observations of one activation tensor, all channels together; none where it is empty."""
    if not statistics.count:
        return None
    minimum, maximum = float(statistics.minimum), float(statistics.maximum)
    return Histogram(
        edges=np.clip(statistics.edges.numpy(), minimum, maximum),
        counts=statistics.counts.numpy(),
        minimum=minimum,
        maximum=maximum,
    )
