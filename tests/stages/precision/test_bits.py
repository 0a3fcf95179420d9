"""The search against all choices, on instances small enough to try them."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.precision.bits import search


@st.composite
def instances(draw):
    """Loss and cost (layers, choices), some choices missing, and a budget that can be met."""
    layers, choices = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    cost = np.array(
        [draw(st.lists(st.integers(1, 60), min_size=choices, max_size=choices)) for _ in range(layers)],
        dtype=np.float64,
    )
    number = st.floats(0.0, 3.0, allow_subnormal=False)
    loss = np.array([draw(st.lists(number, min_size=choices, max_size=choices)) for _ in range(layers)])
    for row in range(layers):
        for column in draw(st.sets(st.integers(0, choices - 1), max_size=choices - 1)):
            loss[row, column] = cost[row, column] = np.inf
    budget = cost.min(axis=1).sum() + draw(st.integers(0, 60))
    return loss, cost, float(budget)


def totals(table, chosen):
    return float(table[np.arange(len(table)), list(chosen)].sum())


@settings(deadline=None, max_examples=150)
@given(instances())
def test_integer_programming_finds_the_optimum(instance):
    loss, cost, budget = instance
    chosen = search(loss, cost, budget, "integer")
    choices = product(range(loss.shape[1]), repeat=len(loss))
    best = min(totals(loss, choice) for choice in choices if totals(cost, choice) <= budget)
    assert totals(cost, chosen) <= budget
    assert totals(loss, chosen) == pytest.approx(best, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=150)
@given(instances())
def test_greedy_meets_the_budget_with_choices_that_exist(instance):
    loss, cost, budget = instance
    chosen = search(loss, cost, budget, "greedy")
    assert totals(cost, chosen) <= budget
    assert np.isfinite(totals(loss, chosen))
    assert totals(loss, chosen) >= totals(loss, search(loss, cost, budget, "integer")) - 1e-9


def test_greedy_takes_the_steps_that_lose_least_for_what_they_save():
    loss = np.array([[5.0, 1.0, 0.0], [9.0, 0.5, 0.0]])
    cost = np.array([[2.0, 4.0, 8.0], [2.0, 4.0, 8.0]])
    assert [list(search(loss, cost, budget, "greedy")) for budget in (16, 12, 8, 6)] == [
        [2, 2],
        [2, 1],
        [1, 1],
        [0, 1],
    ]


@settings(deadline=None)
@given(st.integers(1, 10**9))
def test_the_optimum_does_not_depend_on_the_costs_unit(unit):
    rng = np.random.default_rng(0)
    loss, cost = rng.random((6, 5)), rng.integers(1, 50, (6, 5)).astype(np.float64)
    budget = cost.min(axis=1).sum() + 30
    expected = search(loss, cost, budget, "integer")
    assert np.array_equal(search(loss, cost * unit, budget * unit, "integer"), expected)


@pytest.mark.parametrize("method", ["greedy", "integer"])
def test_a_budget_that_cannot_be_met_is_refused(method):
    with pytest.raises(ValueError, match="budget=5: must be at least 6, the cost at the fewest bits"):
        search(np.zeros((3, 2)), np.array([[2.0, 3.0]] * 3), 5.0, method)
