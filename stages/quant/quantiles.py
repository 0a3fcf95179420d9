"""Quantiles of observations, from the histogram: each within one bin of the exact one, a thousandth of it."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.quant.statistics import Statistics


def quantile(statistics: Statistics, limit: Tensor, share: float) -> Tensor:
    """The value that `share` of the observations do not exceed, of those with magnitudes up to `limit`.

    Observations are taken to lie evenly in their bin.

    Args:
        statistics: with counts.
        limit: float32, qparam_shape.
        share: 0..1.

    Returns:
        float32, qparam_shape, between the extremes of these observations.
    """
    edges = statistics.edges
    counts = statistics.counts * (statistics.starts.abs() <= limit.unsqueeze(-1))
    cumulative = counts.cumsum(-1).double()
    rank = share * cumulative[..., -1:]
    bin_ = torch.searchsorted(cumulative, rank).clamp(max=cumulative.shape[-1] - 1)
    count = counts.gather(-1, bin_)
    before = cumulative.gather(-1, bin_) - count
    left, right = edges.gather(-1, bin_), edges.gather(-1, bin_ + 1)
    value = (left + (right - left) * ((rank - before) / count.clamp(min=1))).squeeze(-1).float()
    return value.clamp(torch.maximum(statistics.minimum, -limit), torch.minimum(statistics.maximum, limit))
