"""What a comparison shows: its figures, which way each is better, and whose predictions are paired.

All of it is configuration, ``hydra.callbacks.compare``; this module knows no figure by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.compare.records import Predictions, Run

ROLES = ("quality", "size", "speed")
"""Quality ranks the runs; size and speed are what it costs, a scatter plot with a Pareto front each."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One column of numbers.

    Args:
        label: what the page calls it.
        better: which way.
        metric: the metric's name; None where that is the figure's own.
        inverse: take 1 over the metric: the seconds that one takes, from how many there are a second.
        factor: multiplies the number where it is shown; 100 for a share in percent.
        unit: follows the number.
        digits: decimals; None writes three significant digits.
        scale: ``ratio`` for what is compared by ratio, as sizes and times are: logarithmic in plots where
            the values span more than a factor of ten.
        role: what it is in scatter plots, Pareto fronts and the choice of the best run; None for no part.
        substitute: whether it takes the role quality where no run has the figure of that role; of several the
            first that is there.
        parts: where on the page, beside hints and effects: ``best`` (the best run's head), ``table``,
            ``parallel`` (coordinates).
    """

    label: str
    better: Literal["higher", "lower"]
    metric: str | None = None
    inverse: bool = False
    factor: float = 1.0
    unit: str = ""
    digits: int | None = None
    scale: Literal["linear", "ratio"] = "linear"
    role: Literal["quality", "size", "speed"] | None = None
    substitute: bool = False
    parts: tuple[Literal["best", "table", "parallel"], ...] = ("table", "parallel")

    def __post_init__(self) -> None:
        if not self.label:
            raise ValueError("label='': must be the figure's name on the page")
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"factor={self.factor}: must be above 0; better=lower turns a figure round")
        if self.digits is not None and not 0 <= self.digits <= 15:
            raise ValueError(f"digits={self.digits}: must be 0..15, or null for three significant digits")

    def cost(self, value: float) -> float:
        """The value, signed so that smaller is better."""
        return value if self.better == "lower" else -value


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a comparison consists of.

    Args:
        figures: by name, which is also the CSV's column; None leaves out one that is configured elsewhere.
        predictions: where what each run got right on the common samples comes from, for McNemar's test;
            None makes no test.
    """

    figures: Mapping[str, Figure | None]
    predictions: Predictions | None = None

    def __post_init__(self) -> None:
        for role in ROLES:
            having = [name for name, figure in self.shown.items() if figure.role == role]
            if len(having) > 1:
                raise ValueError(f"figures: {' and '.join(having)} have role={role}; must be one at most")
        if "quality" not in self.roles:
            raise ValueError("figures: one must have role=quality, by which the runs are ranked")

    @property
    def shown(self) -> dict[str, Figure]:
        """The figures that are not left out."""
        return {name: figure for name, figure in self.figures.items() if figure is not None}

    @property
    def roles(self) -> dict[str, str]:
        """The figure's name by its role, in the order of `ROLES`."""
        by_role = {figure.role: name for name, figure in self.shown.items()}
        return {role: by_role[role] for role in ROLES if role in by_role}

    def among(self, runs: Sequence[Run]) -> Contents:
        """The same, with the quality that these runs have: its figure's, or the first substitute's."""
        quality = self.roles["quality"]
        candidates = [quality, *(name for name, figure in self.shown.items() if figure.substitute)]
        measured = (n for n in candidates if any(math.isfinite(self.value(n, run)) for run in runs))
        if (found := next(measured, quality)) == quality:
            return self
        figures = {
            quality: replace(self.shown[quality], role=None),
            found: replace(self.shown[found], role="quality"),
        }
        return replace(self, figures={**self.figures, **figures})

    def value(self, name: str, run: Run) -> float:
        """A run's figure, unscaled; NaN where it was not measured."""
        figure = self.shown[name]
        value = run.metrics.get(figure.metric or name, math.nan)
        # a database without infinity holds the largest double in its place
        if not abs(value) < 1e300:
            return math.nan
        if not figure.inverse:
            return value
        return 1.0 / value if value > 0.0 else math.nan

    def described(self, name: str) -> dict[str, Any]:
        """A figure as the page's script takes it."""
        figure = vars(self.shown[name]) | {"key": name, "parts": list(self.shown[name].parts)}
        return {key: value for key, value in figure.items() if key not in ("metric", "inverse", "substitute")}
