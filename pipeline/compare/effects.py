"""Main effects: what one choice changes, the other choices averaged out.

Each run is an observation of ``y = μ + Σ_f α_f[option of factor f] + ε``, fitted by least squares. An
option's mean is the fit with that option and the plain average over the options of every other factor (the
estimated marginal mean): in a full grid the mean of the option's runs, and in a search that tries good
combinations more often than bad ones not misled by that. The interval is Student's t on the residuals,
which hold the noise *and* what the factors do together: where it is wide, they interact.

Searle, Speed and Milliken, "Population marginal means in the linear model: an alternative to least squares
means", The American Statistician 34 (1980).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One option of one factor.

    Args:
        option: its name.
        mean: the estimated mean, the other factors averaged. None where the runs cannot tell it from
            another factor's effect (the option occurs in one combination only).
        low, high: the confidence interval; None where no run is left to judge the residuals by.
        runs: how many runs have the option.
    """

    option: str
    mean: float | None
    low: float | None
    high: float | None
    runs: int


def main_effects(
    factors: Mapping[str, Sequence[str]],
    values: Sequence[float] | NDArray[np.float64],
    *,
    confidence: float = 0.95,
) -> dict[str, tuple[Effect, ...]]:
    """The effect of every option of every factor.

    Args:
        factors: name → the option of each run. Options are reported in the order of first occurrence.
        values: the figure of each run; a run with NaN is left out.
        confidence: of the intervals, 0..1.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1")
    y = np.asarray(values, dtype=np.float64)
    for name, chosen in factors.items():
        if len(chosen) != len(y):
            raise ValueError(f"factors[{name!r}]: {len(chosen)} options; must be {len(y)}, one a value")
    measured = [int(i) for i in np.flatnonzero(np.isfinite(y))]
    y = y[measured]
    options = {name: [chosen[i] for i in measured] for name, chosen in factors.items()}
    levels = {name: list(dict.fromkeys(chosen)) for name, chosen in options.items()}
    design = _design(options, levels, len(y))
    inverse = np.linalg.pinv(design)
    fit = inverse @ y
    freedom = len(y) - int(np.linalg.matrix_rank(design)) if len(y) else 0
    variance = float(np.square(y - design @ fit).sum()) / freedom if freedom else np.nan
    half = float(stdtrit(freedom, (1.0 + confidence) / 2.0)) if freedom else np.nan

    def effect(factor: str, option: str) -> Effect:
        contrast = _marginal(levels, factor, option)
        runs = options[factor].count(option)
        # estimable, that is, a combination of runs
        if not np.allclose(contrast @ inverse @ design, contrast, atol=1e-8):
            return Effect(option=option, mean=None, low=None, high=None, runs=runs)
        mean = float(contrast @ fit)
        if not freedom:
            return Effect(option=option, mean=mean, low=None, high=None, runs=runs)
        error = half * float(np.sqrt(variance * np.square(contrast @ inverse).sum()))
        return Effect(option=option, mean=mean, low=mean - error, high=mean + error, runs=runs)

    return {factor: tuple(effect(factor, option) for option in levels[factor]) for factor in factors}


def _design(
    options: Mapping[str, Sequence[str]], levels: Mapping[str, list[str]], runs: int
) -> NDArray[np.float64]:
    """A row a run: 1, then 0 or 1 for each option of each factor; the pseudo-inverse bears the surplus."""
    columns = [np.ones(runs)]
    for factor, chosen in options.items():
        columns += [np.array([c == level for c in chosen], dtype=np.float64) for level in levels[factor]]
    return np.stack(columns, axis=1)


def _marginal(levels: Mapping[str, list[str]], factor: str, option: str) -> NDArray[np.float64]:
    """The row of the design matrix that has `option`, and all options of the other factors in equal parts."""
    row = [1.0]
    for name, names in levels.items():
        row += [float(n == option) for n in names] if name == factor else [1.0 / len(names)] * len(names)
    return np.array(row)
