"""The protocol of a calibrator, and the choice of calibrators for a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from stages.quant.calibrators.minmax import MinMax
from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics

Grid = Callable[[Tensor, Tensor], QParams]
"""From a range (min, max) to the grid that the scheme in use lays over it."""


@runtime_checkable
class Calibrator(Protocol):
    """Reduces what was observed to a range; knows neither scheme nor granularity."""

    reads_histogram: ClassVar[bool]
    """Whether it needs more than the extremes: statistics of weights are made for one calibrator alone."""

    def range(self, statistics: Statistics, qparams: Grid) -> tuple[Tensor, Tensor]:
        """The range (min, max) to quantize, both float32 of shape qparam_shape.

        Lies within the observed range, widened to contain 0 as quantizers widen it. `qparams` lets a
        calibrator try what a range would do to the values; it may be called with ranges of any shape ``()``
        or ``(C,)``.
        """


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the configuration group ``calibration`` chooses.

    Args:
        activation: the calibrator of the input and of every computed value.
        weight: the calibrator of weights, which are known exactly and seldom need more than min/max.
        samples: how many training samples to observe.
        batch_size: samples a forward pass, and so a step of the moving average.
    """

    activation: Calibrator
    weight: Calibrator = field(default_factory=MinMax)
    samples: int = 512
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1; some hundreds are usual")
