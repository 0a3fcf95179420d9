"""Exponential moving average of each batch's min and max.

``m_1 = b_1``, ``m_t = momentum · m_{t−1} + (1 − momentum) · b_t``, for the batches' minima and maxima
apart. Outliers of single batches are smoothed away. Krishnamoorthi 2018 (arXiv 1806.08342), section 3.1.2.
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
class MovingAverage:
    """An average over about the last ``1 / (1 − momentum)`` batches.

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
        steps = len(statistics.batches)
        weight = self.momentum ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)
        weight[1:] *= 1 - self.momentum
        low, high = torch.tensordot(weight, statistics.batches.double(), dims=1).float()
        # rounding of the weights, whose sum is 1 but for it, must not lead outside
        return torch.maximum(low, statistics.minimum), torch.minimum(high, statistics.maximum)
