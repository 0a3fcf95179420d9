"""The statistics of a set of runs, as the plain values that the page draws and the CSV lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compare.effects import main_effects
from pipeline.compare.factors import Factors, find_factors, ordered
from pipeline.compare.figures import ACCURACY, FIGURES, LATENCY, SIZE, Figure
from pipeline.compare.mcnemar import discordant, holm, mcnemar
from pipeline.compare.pareto import pareto_front
from pipeline.compare.records import Run

MATRIX = 20
"""The matrix of p-values is of so many runs at most, the most accurate ones."""

MANY = 12
"""A factor of more options than this is a search's; it has no main effects."""

FigureColumns = dict[str, NDArray[np.float64]]
"""Figure → its value for each run, NaN where it was not measured."""


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything the page shows, as JSON holds it; a run is named by its place in `runs`.

    Runs on different test sets are never weighed against each other: fronts, effects, tests and the best
    run are per set.
    """
    factors = find_factors(runs)
    values = {figure.key: np.array([figure.of(run) for run in runs]) for figure in FIGURES}
    figures = [figure for figure in FIGURES if np.isfinite(values[figure.key]).any()]
    sets = _test_sets(runs)
    return {
        "figures": [vars(figure) for figure in figures],
        "factors": {name: ordered(options) for name, options in factors.varying.items()},
        "constant": factors.constant,
        "runs": [
            {
                "id": run.id,
                "name": run.name,
                "status": run.status,
                "started": run.started,
                "command": command(run),
                "options": {name: options[i] for name, options in factors.varying.items()},
                "values": {figure.key: _finite(values[figure.key][i]) for figure in figures},
            }
            for i, run in enumerate(runs)
        ],
        "sets": [
            {
                "name": name,
                "runs": members,
                "best": _best(members, values),
                "fronts": {key: _front(members, values, key) for key in (SIZE, LATENCY)},
                "effects": _effects(members, values, factors, figures),
                "tests": _tests(runs, members, values),
            }
            for name, members in sets.items()
        ],
    }


def command(run: Run) -> str:
    """What runs it again; empty where a run does not say how it was started."""
    overrides = run.tags.get("overrides")
    return "" if overrides is None else f"python -m pipeline {overrides}".strip()


def _test_sets(runs: Sequence[Run]) -> dict[str, list[int]]:
    """The runs of each test set: of one option of ``data`` and, where that is a setting, one path."""
    sets: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        parts = (run.tags.get("data", ""), run.params.get("data.test", ""))
        sets.setdefault(" ".join(filter(None, parts)), []).append(index)
    return sets


def _costs(members: Sequence[int], values: FigureColumns, *keys: str) -> NDArray[np.float64]:
    figures = {figure.key: figure for figure in FIGURES}
    return np.array([[figures[key].cost(values[key][i]) for key in keys] for i in members])


def _front(members: Sequence[int], values: FigureColumns, key: str) -> list[int]:
    """Runs that no other beats in both accuracy and `key`, by `key`."""
    on_front = pareto_front(_costs(members, values, ACCURACY, key))
    front = [index for index, on in zip(members, on_front, strict=True) if on]
    return sorted(front, key=lambda index: float(values[key][index]))


def _best(members: Sequence[int], values: FigureColumns) -> int | None:
    """The most accurate run; of several, the smallest, then the fastest, then the oldest."""
    costs = np.nan_to_num(_costs(members, values, ACCURACY, SIZE, LATENCY), nan=np.inf)
    best = int(np.lexsort(costs.T[::-1])[0])
    return members[best] if np.isfinite(costs[best, 0]) else None


def _effects(
    members: Sequence[int],
    values: FigureColumns,
    factors: Factors,
    figures: Sequence[Figure],
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By figure and factor. A factor that all of the set's runs agree on has none."""
    options = {name: [chosen[i] for i in members] for name, chosen in factors.varying.items()}
    options = {name: chosen for name, chosen in options.items() if 1 < len(set(chosen)) <= MANY}
    result: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for figure in figures:
        effects = main_effects(options, values[figure.key][members])
        result[figure.key] = {}
        for name, found in effects.items():
            by_option = {effect.option: vars(effect) for effect in found}
            result[figure.key][name] = [by_option[option] for option in ordered(by_option)]
    return result


def _tests(runs: Sequence[Run], members: Sequence[int], values: FigureColumns) -> dict[str, Any] | None:
    """McNemar's test of the best run against all others, and among the most accurate ones.

    Only runs with predictions on the same labels take part: those that share the most common ones.
    """
    by_samples: dict[str, list[int]] = {}
    for index in members:
        outcome = runs[index].outcome
        if outcome is not None:
            by_samples.setdefault(outcome.samples, []).append(index)
    tested = max(by_samples.values(), key=len, default=[])
    best = _best(tested, values) if tested else None
    if best is None or len(tested) < 2:
        return None
    ranked = sorted(tested, key=lambda index: (index != best, -np.nan_to_num(values[ACCURACY][index])))
    correct = np.stack([_correct(runs[index]) for index in ranked])
    wins = discordant(correct)
    p = mcnemar(wins, wins.T)
    adjusted = holm(p[0, 1:])
    top = min(MATRIX, len(ranked))
    return {
        "samples": correct.shape[1],
        "best": best,
        "against": [
            {
                "run": ranked[i],
                "best_only": int(wins[0, i]),
                "other_only": int(wins[i, 0]),
                "p": float(p[0, i]),
                "adjusted": float(adjusted[i - 1]),
            }
            for i in range(1, len(ranked))
        ],
        "matrix": {"runs": ranked[:top], "p": p[:top, :top].tolist()},
    }


def _correct(run: Run) -> NDArray[np.bool_]:
    if run.outcome is None:
        raise ValueError(f"run={run.id}: must have predictions")
    return run.outcome.correct


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
