"""Bits for each layer: the least summed loss within a budget.

    ``minimize Σ_l loss[l, b_l]   subject to   Σ_l cost[l, b_l] ≤ budget``

Layers count as independent: the loss of rounding several is taken to be the sum of their losses. It is a
multiple-choice knapsack problem. Arrays are (layers, choices); a choice that a layer does not have, costs
and loses infinitely much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

PerChoice = NDArray[np.float64]
"""One number for each choice of each layer, (layers, choices)."""

Method = Literal["greedy", "integer"]


def search(loss: PerChoice, cost: PerChoice, budget: float, method: Method) -> NDArray[np.intp]:
    """The choice of each layer, (layers,).

    Args:
        loss: finite, or inf where there is no such choice; (layers, choices).
        cost: integers as float64, or inf at the same places.
        budget: the most that all choices may cost.
        method: ``integer`` finds the optimum by branch and bound (HiGHS); ``greedy`` takes the cheapest step
            down, by loss per cost saved, until the budget is met.

    Raises:
        ValueError: even the cheapest choices exceed the budget.
    """
    least = float(cost.min(axis=1).sum())
    if least > budget:
        raise ValueError(f"budget={budget:g}: must be at least {least:g}, the cost at the fewest bits")
    return _METHODS[method](loss, cost, budget)


def _greedy(loss: PerChoice, cost: PerChoice, budget: float) -> NDArray[np.intp]:
    layers = np.arange(len(cost))
    chosen = np.where(np.isfinite(cost), cost, -1.0).argmax(axis=1)
    while cost[layers, chosen].sum() > budget:
        saved = cost[layers, chosen][:, None] - cost
        lost = loss - loss[layers, chosen][:, None]
        steps = np.isfinite(cost) & (saved > 0)
        rate = np.divide(lost, saved, out=np.full_like(cost, np.inf), where=steps)
        layer, choice = np.unravel_index(rate.argmin(), rate.shape)
        chosen[layer] = choice
    return np.asarray(chosen, dtype=np.intp)


def _integer(loss: PerChoice, cost: PerChoice, budget: float) -> NDArray[np.intp]:
    possible = np.isfinite(cost)
    loss, cost = np.where(possible, loss, 0.0), np.where(possible, cost, 0.0)
    # In steps of the costs' common divisor and of a millionth of the largest loss: the solver's tolerances
    # are absolute.
    unit = max(int(np.gcd.reduce(cost.astype(np.int64).ravel())), 1)
    scale = 1e6 / max(float(np.abs(loss).max()), 1e-300)
    layers, choices = loss.shape
    one_each = np.kron(np.eye(layers), np.ones(choices))
    solution: Any = milp(
        (loss * scale).ravel(),
        integrality=np.ones(loss.size),
        bounds=Bounds(0.0, possible.ravel().astype(np.float64)),
        constraints=[
            LinearConstraint(one_each, 1.0, 1.0),
            LinearConstraint((cost / unit).reshape(1, -1), -np.inf, np.floor(budget / unit)),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if solution.x is None:
        raise ValueError(f"no choice found: {solution.message}")
    chosen: NDArray[np.intp] = np.reshape(solution.x, loss.shape).argmax(axis=1)
    return chosen


_METHODS: Mapping[str, Callable[[PerChoice, PerChoice, float], NDArray[np.intp]]] = {
    "greedy": _greedy,
    "integer": _integer,
}
