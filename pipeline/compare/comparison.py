"""The statistics of a set of runs, as the plain values that the page draws and the CSV lists."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.compare.effects import main_effects
from pipeline.compare.factors import Factors, find_factors, ordered
from pipeline.compare.figures import Contents
from pipeline.compare.mcnemar import discordant, holm, mcnemar
from pipeline.compare.pareto import pareto_front
from pipeline.compare.records import Run

MATRIX = 20
"""The matrix of p-values is of so many runs at most, the best ones."""

MANY = 12
"""A factor of more options than this is a search's; it has no main effects."""

FigureColumns = dict[str, NDArray[np.float64]]
"""Figure → its value for each run, NaN where it was not measured."""


def compare(runs: Sequence[Run], contents: Contents) -> dict[str, Any]:
    """Everything the page shows, as JSON holds it; a run is named by its place in `runs`.

    Runs on different test sets are never weighed against each other: fronts, effects, tests and the best
    run are per set.
    """
    contents = contents.among(runs)
    factors = find_factors(runs)
    values = {name: np.array([contents.value(name, run) for run in runs]) for name in contents.shown}
    figures = [name for name in contents.shown if np.isfinite(values[name]).any()]
    costs = [name for role, name in contents.roles.items() if role != "quality"]
    sets = _test_sets(runs)
    return {
        "figures": [contents.described(name) for name in figures],
        "predictions": contents.predictions and contents.predictions.predicted,
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
                "values": {figure: _finite(values[figure][i]) for figure in figures},
            }
            for i, run in enumerate(runs)
        ],
        "sets": [
            {
                "name": name,
                "runs": members,
                "best": _best(members, values, contents),
                "fronts": {name: _front(members, values, contents, name) for name in costs},
                "effects": _effects(members, values, factors, figures),
                "tests": _tests(runs, members, values, contents),
            }
            for name, members in sets.items()
        ],
    }


def command(run: Run) -> str:
    """What runs it again; empty where a run does not say how it was started."""
    if (whole := run.tags.get("command")) is not None:
        return whole
    overrides = run.tags.get("overrides")  # of an earlier version
    return "" if overrides is None else f"python -m pipeline {overrides}".strip()


def _test_sets(runs: Sequence[Run]) -> dict[str, list[int]]:
    """The runs of each test set: of one option of ``data`` and, where that is a setting, one path."""
    sets: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        parts = (run.tags.get("data", ""), run.params.get("data.test", ""))
        sets.setdefault(" ".join(filter(None, parts)), []).append(index)
    return sets


def _costs(
    members: Sequence[int], values: FigureColumns, contents: Contents, names: Iterable[str]
) -> NDArray[np.float64]:
    """(members, names), smaller is better."""
    return np.array([[contents.shown[name].cost(values[name][i]) for name in names] for i in members])


def _front(members: Sequence[int], values: FigureColumns, contents: Contents, name: str) -> list[int]:
    """Runs that no other beats in both quality and the figure `name`, the cheapest first."""
    costs = _costs(members, values, contents, (contents.roles["quality"], name))
    front = np.flatnonzero(pareto_front(costs))
    return [members[i] for i in front[np.argsort(costs[front, 1], kind="stable")]]


def _best(members: Sequence[int], values: FigureColumns, contents: Contents) -> int | None:
    """The run of best quality; of several, the smallest, then the fastest, then the oldest."""
    costs = _costs(members, values, contents, list(contents.roles.values()))
    costs = np.nan_to_num(costs, nan=np.inf)
    best = int(np.lexsort(costs.T[::-1])[0])
    return members[best] if np.isfinite(costs[best, 0]) else None


def _effects(
    members: Sequence[int],
    values: FigureColumns,
    factors: Factors,
    figures: Sequence[str],
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """By figure and factor. A factor that all of the set's runs agree on has none."""
    options = {name: [chosen[i] for i in members] for name, chosen in factors.varying.items()}
    options = {name: chosen for name, chosen in options.items() if 1 < len(set(chosen)) <= MANY}
    result: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for figure in figures:
        effects = main_effects(options, values[figure][members])
        result[figure] = {}
        for name, found in effects.items():
            by_option = {effect.option: vars(effect) for effect in found}
            result[figure][name] = [by_option[option] for option in ordered(by_option)]
    return result


def _tests(
    runs: Sequence[Run], members: Sequence[int], values: FigureColumns, contents: Contents
) -> dict[str, Any] | None:
    """McNemar's test of the best run against all others, and among the best ones.

    Only runs with predictions of the same truth take part: those that share the most common ones.
    """
    by_samples: dict[str, list[int]] = {}
    for index in members:
        outcome = runs[index].outcome
        if outcome is not None:
            by_samples.setdefault(outcome.samples, []).append(index)
    tested = max(by_samples.values(), key=len, default=[])
    best = _best(tested, values, contents) if tested else None
    if best is None or len(tested) < 2:
        return None
    quality = _costs(tested, values, contents, (contents.roles["quality"],))[:, 0]
    rank = dict(zip(tested, np.nan_to_num(quality, nan=np.inf), strict=True))
    ranked = sorted(tested, key=lambda index: (index != best, rank[index]))
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
