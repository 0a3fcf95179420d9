"""What no calibrator does: clip more than half of what is usual, be it by an average or by few bits."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.quant.outliers import usual_limit
from stages.quant.quantiles import quantile
from stages.quant.statistics import Statistics


def half(statistics: Statistics) -> tuple[Tensor, Tensor]:
    """The quartiles of the usual observations, both float32 of qparam_shape; no range may be narrower."""
    limit = usual_limit(statistics)
    return quantile(statistics, limit, 0.25), quantile(statistics, limit, 0.75)


def covering_half(statistics: Statistics, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The range, widened to `half` where that lies outside; as it is where values were not counted."""
    if not statistics.count:
        return low, high
    least, most = half(statistics)
    return torch.minimum(low, least), torch.maximum(high, most)
