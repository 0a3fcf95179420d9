"""Percentiles of the observations: a given share at either end is clipped.

``max`` is the p-th percentile and ``min`` the (100 − p)-th of what is usual (`stages.quant.outliers`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stages.quant.qparams import QParams
from stages.quant.quantiles import quantiles
from stages.quant.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Clips ``100 − percentile`` percent of the observations at either end.

    One-sided data stays one-sided: the low percentile of what comes out of a ReLU is 0 or more.

    Args:
        percentile: above 50, up to 100 (which is min/max of what is usual).
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
        """The (100 − p)-th and the p-th percentile, both float32 of qparam_shape."""
        low, high = quantiles(statistics, 1 - self.percentile / 100, self.percentile / 100)
        return low, high
