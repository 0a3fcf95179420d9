"""The whole observed range: nothing is clipped, and one outlier widens every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class MinMax:
    """The exact minimum and maximum of all observations."""

    reads_histogram: ClassVar[bool] = False

    def range(
        self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]
    ) -> tuple[Tensor, Tensor]:
        """The observed (min, max)."""
        return statistics.minimum, statistics.maximum
