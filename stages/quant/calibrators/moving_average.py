"""Exponential moving average of each batch's min and max.

``m_t = Σ_i momentum^(t−i) · b_i / Σ_i momentum^(t−i)``, i = 1..t, for the batches' minima and maxima apart.
That is ``m_t = momentum · m_{t−1} + (1 − momentum) · b_t`` from ``m_0 = 0``, corrected for this start as
Adam's averages are (Kingma and Ba 2015, section 3). Begun at the first batch instead, that one alone would
weigh ``momentum^(t−1)``, 0.48 of 8 batches at 0.9; now none weighs more than the last, 0.18. Extremes of
single batches are smoothed away. Krishnamoorthi 2018 (arXiv 1806.08342), section 3.1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.quant.calibrators.guard import covering_half
from stages.quant.outliers import usual_rows
from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics, by_update


@dataclass(frozen=True, kw_only=True)
class MovingAverage:
    """An average over about the last ``1 / (1 − momentum)`` batches.

    Abnormal samples (`stages.quant.outliers`) are left out of their batch, and a batch of such alone out of
    the average.

    Args:
        momentum: what is kept of the average at each batch, 0 ≤ momentum < 1. 0.9 suits the ten or so
            batches of a usual calibration; with 100 batches or more, 0.99.
    """

    reads_histogram: ClassVar[bool] = False

    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(
                f"momentum={self.momentum}: must be at least 0 (the last batch alone) and below 1 "
                "(the first batch alone)"
            )

    def range(
        self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]
    ) -> tuple[Tensor, Tensor]:
        """The averaged (min, max)."""
        usual = usual_rows(statistics)
        outside = torch.stack(
            [torch.where(usual, 0.0, torch.inf), torch.where(usual, 0.0, -torch.inf)], dim=1
        )
        batches = by_update(statistics.rows + outside, statistics.updates).double()
        known = torch.isfinite(batches[:, 0])
        later = known.flip(0).cumsum(0).flip(0) - 1
        weight = torch.where(known, self.momentum ** later.double(), 0.0)
        weight = (weight / weight.sum(dim=0)).unsqueeze(1)
        low, high = torch.where(weight > 0, weight * batches, 0.0).sum(dim=0).float()
        # rounding of the weights, whose sum is 1 but for it, must not lead outside
        low, high = torch.maximum(low, statistics.minimum), torch.minimum(high, statistics.maximum)
        return covering_half(statistics, low, high)
