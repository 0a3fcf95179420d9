"""k-means in one dimension, for codebooks (Han et al. 2016, arXiv 1510.00149, section 3).

In order, clusters are intervals: a cluster's sum is a difference of prefix sums, its ends are found by
bisection between neighbouring centroids, and a step costs O(k log n), whatever the number of values.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_STEPS = 50


def kmeans(values: Tensor, k: int, tolerance: float = 0.0) -> Tensor:
    """Centroids that lower ``Σ min_c (x − c)²``, one of which is 0.

    They start evenly spaced over the range of `values` and zero, which keeps the few large values from being
    drawn towards the many small ones, and costs less accuracy than random or quantile starts (Han et al.,
    section 3.2). The one nearest to zero is put there and stays. At most 50 steps.

    Args:
        values: float (n,), n ≥ 1.
        k: number of centroids.
        tolerance: end when none moves by more.

    Returns:
        float64 (k,), ascending.
    """
    ordered = values.double().flatten().sort().values
    sums = torch.nn.functional.pad(ordered.cumsum(0), (1, 0))
    first, last = min(float(ordered[0]), 0.0), max(float(ordered[-1]), 0.0)
    centroids = torch.linspace(first, last, k, dtype=torch.float64)
    zero = int(centroids.abs().argmin())
    centroids[zero] = 0.0
    ends = torch.tensor([0, len(ordered)])
    for _ in range(MAX_STEPS):
        between = torch.searchsorted(ordered, midpoints(centroids))
        edges = torch.cat([ends[:1], between, ends[1:]])
        count = edges.diff()
        moved = torch.where(count > 0, sums[edges].diff() / count.clamp(min=1), centroids)
        moved[zero] = 0.0
        distance = float((moved - centroids).abs().max())
        centroids = moved
        if distance <= tolerance:
            break
    return centroids


def midpoints(ascending: Tensor) -> Tensor:
    """Where the nearest of ``ascending`` (k,) changes: (k − 1,)."""
    return (ascending[1:] + ascending[:-1]) / 2
