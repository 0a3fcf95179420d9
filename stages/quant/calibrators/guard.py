"""What no calibrator does: clip more than half of what is usual, be it by an average or by few bits."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.quant.quantiles import central
from stages.quant.statistics import Statistics

HALF = 0.5
"""The least share of the values that any range holds."""


def covering_half(statistics: Statistics, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The range, widened to hold the `central` half; as it is where values were not counted."""
    if not statistics.count:
        return low, high
    least, most = central(statistics, HALF)
    return torch.minimum(low, least), torch.maximum(high, most)
