"""The figures a comparison shows, and which way each is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pipeline.compare.records import Run

Format = Literal["percent", "decibel", "bytes", "times", "rate", "milliseconds"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One column of numbers.

    Args:
        key: the metric's name.
        label: what the page calls it.
        format: how a value is written.
        better: ``high`` or ``low``.
    """

    key: str
    label: str
    format: Format
    better: Literal["high", "low"]

    def of(self, run: Run) -> float:
        """A run's value; NaN where it was not measured."""
        if self.key == LATENCY:
            rate = run.metrics.get("integer/images_per_second", 0.0)
            return 1000.0 / rate if rate > 0.0 else math.nan
        value = run.metrics.get(self.key, math.nan)
        # a database without infinity holds the largest double in its place
        return value if abs(value) < 1e300 else math.nan

    def cost(self, value: float) -> float:
        """The value, signed so that smaller is better."""
        return value if self.better == "low" else -value


ACCURACY = "integer/top1"
SIZE = "model/integer_bytes"
LATENCY = "integer/milliseconds_per_image"
"""The inverse of ``integer/images_per_second``."""

FIGURES = (
    Figure(key="float/top1", label="float top-1", format="percent", better="high"),
    Figure(key="simulated/top1", label="simulated top-1", format="percent", better="high"),
    Figure(key=ACCURACY, label="integer top-1", format="percent", better="high"),
    Figure(key="integer/agreement", label="agreement", format="percent", better="high"),
    Figure(key="integer/sqnr_db", label="SQNR dB", format="decibel", better="high"),
    Figure(key=SIZE, label="bytes", format="bytes", better="low"),
    Figure(key="model/compression", label="smaller", format="times", better="high"),
    Figure(key="integer/images_per_second", label="images/s", format="rate", better="high"),
    Figure(key=LATENCY, label="ms/image", format="milliseconds", better="low"),
)
