"""Percentiles of the observations: a given share at either end is clipped.

``max`` is the p-th percentile and ``min`` the (100 − p)-th, from the histogram, with observations taken to
lie evenly in their bin. So each is within one bin, at most 1/2048 of max|x|, of the exact percentile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Clips ``100 − percentile`` percent of the observations at either end.

    One-sided data stays one-sided: the low percentile of what comes out of a ReLU is 0 or more.

    Args:
        percentile: above 50, up to 100 (which is min/max).
    """

    reads_histogram: ClassVar[bool] = True

    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 < self.percentile <= 100.0:
            raise ValueError(
                f"percentile={self.percentile}: must be above 50, up to 100; in percent: 99.9, not 0.999"
            )

    def range(
        self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]
    ) -> tuple[Tensor, Tensor]:
        """The (100 − p)-th and the p-th percentile, within the observed min and max."""
        upper = self._quantile(statistics, self.percentile / 100)
        lower = self._quantile(statistics, 1 - self.percentile / 100)
        return lower, upper

    def _quantile(self, statistics: Statistics, share: float) -> Tensor:
        """The value that `share` of the observations do not exceed."""
        cumulative = statistics.counts.cumsum(-1).double()
        rank = share * cumulative[..., -1:]
        bin_ = torch.searchsorted(cumulative, rank).clamp(max=cumulative.shape[-1] - 1)
        count = statistics.counts.gather(-1, bin_)
        before = cumulative.gather(-1, bin_) - count
        left = statistics.edges.gather(-1, bin_)
        right = statistics.edges.gather(-1, bin_ + 1)
        value = left + (right - left) * ((rank - before) / count.clamp(min=1))
        return value.squeeze(-1).float().clamp(statistics.minimum, statistics.maximum)
