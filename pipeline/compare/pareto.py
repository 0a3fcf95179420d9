"""The Pareto front: what nothing else beats in every respect.

Of two points of costs, ``a`` dominates ``b`` where ``a <= b`` in every coordinate and ``a < b`` in one.
The front is the points that no other dominates; equal points are on it together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pareto_front(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points are on the front.

    Args:
        costs: (points, objectives), smaller is better; negate what is to be large. A point with a NaN
            was not measured and is not on the front.

    Returns:
        Boolean (points,).
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2:
        raise ValueError(f"costs.shape={costs.shape}: must be (points, objectives)")
    on_front = np.zeros(len(costs), dtype=np.bool_)
    # in lexicographic order a point is dominated by an earlier one or by none, and domination is transitive
    for index in np.lexsort(costs.T[::-1]):
        point, front = costs[index], costs[on_front]
        if np.isnan(point).any():
            continue
        dominated = (front <= point).all(axis=1) & (front < point).any(axis=1)
        on_front[index] = not dominated.any()
    return on_front
