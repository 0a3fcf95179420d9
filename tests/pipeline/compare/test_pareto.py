"""The front is what a brute-force search over all pairs finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare.pareto import pareto_front

# few distinct values, so that ties and equal points are common
costs = st.integers(1, 4).flatmap(
    lambda objectives: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), min_size=objectives, max_size=objectives),
        min_size=1,
        max_size=12,
    )
)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@given(costs)
def test_the_front_is_what_nothing_dominates(points):
    measured = [p for p in points if not any(map(math.isnan, p))]
    expected = [p in measured and not any(dominates(q, p) for q in measured) for p in points]
    assert pareto_front(np.array(points)).tolist() == expected


@given(costs, st.permutations(range(12)))
def test_the_order_of_the_points_makes_no_difference(points, order):
    order = [i for i in order if i < len(points)]
    front = pareto_front(np.array(points))
    assert pareto_front(np.array([points[i] for i in order])).tolist() == front[order].tolist()


def test_points_are_rows():
    with pytest.raises(ValueError, match=r"costs\.shape=\(3,\): must be \(points, objectives\)"):
        pareto_front(np.zeros(3))
