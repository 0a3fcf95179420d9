"""Quantiles of observations, from the histogram: each within one bin of the exact one, a thousandth of it."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.quant.outliers import usual_extremes, usual_limit
from stages.quant.statistics import Statistics


def quantiles(statistics: Statistics, *shares: float) -> list[Tensor]:
    """The values that so large shares (0..1) of what is usual do not exceed, each float32 of qparam_shape.

    Observations, which must have been counted, are taken to lie evenly in their bin.
    """
    low, high = usual_extremes(statistics)
    counts = _usual_counts(statistics)
    cumulative = counts.cumsum(-1).double()
    found = []
    for share in shares:
        rank = share * cumulative[..., -1:]
        bin_ = _bin(cumulative, rank)
        count = counts.gather(-1, bin_)
        left, right = statistics.edge(bin_), statistics.edge(bin_ + 1)
        within = (rank - cumulative.gather(-1, bin_) + count) / count.clamp(min=1)
        found.append((left + (right - left) * within).squeeze(-1).float().clamp(low, high))
    return found


def central(statistics: Statistics, share: float) -> tuple[Tensor, Tensor]:
    """The range (min, max) that holds at least `share` of what is usual, clipping as much at either end.

    Both float32 of qparam_shape; whole bins, within the extremes.
    """
    low, high = usual_extremes(statistics)
    cumulative = _usual_counts(statistics).cumsum(-1).double()
    total = cumulative[..., -1:]
    first, last = (_bin(cumulative, total * at) for at in ((1 - share) / 2, (1 + share) / 2))
    left, right = statistics.edge(first), statistics.edge(last + 1)
    return left.squeeze(-1).float().clamp(low, high), right.squeeze(-1).float().clamp(low, high)


def _usual_counts(statistics: Statistics) -> Tensor:
    limit = usual_limit(statistics)
    if torch.equal(limit, torch.maximum(-statistics.minimum, statistics.maximum)):
        return statistics.counts
    return statistics.counts * (statistics.starts.abs() <= limit.unsqueeze(-1))


def _bin(cumulative: Tensor, rank: Tensor) -> Tensor:
    """The bin in which the cumulative count reaches `rank`, int64 (*qparam_shape, 1)."""
    return torch.searchsorted(cumulative, rank).clamp(max=cumulative.shape[-1] - 1)
