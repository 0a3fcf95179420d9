"""McNemar's test: do two classifiers differ, judged on the same samples?

Samples that both get right, or both wrong, say nothing about which is better. Of the others, `b` are right
in the first alone and `c` in the second alone; were the two equally good, ``b ~ Binomial(b + c, 1/2)``.
The two-sided exact p-value is

    p = min(1, 2 · P[X <= min(b, c)]),   X ~ Binomial(b + c, 1/2).

McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
Psychometrika 12 (1947).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr


def discordant(correct: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Samples that one run gets right and another wrong, for every pair of runs.

    Args:
        correct: (runs, samples), whether a run's prediction is the label.

    Returns:
        (runs, runs); ``[i, j]`` counts the samples that are right in run i and wrong in run j.
    """
    right = np.asarray(correct, dtype=np.float32)  # a BLAS product; counts below 2^24 are exact
    if right.ndim != 2 or right.shape[1] >= 1 << 24:
        raise ValueError(
            f"correct.shape={right.shape}: must be (runs, samples), with fewer than 2^24 samples"
        )
    return np.rint(right @ (1.0 - right).T).astype(np.int64)


def mcnemar(b: ArrayLike, c: ArrayLike) -> NDArray[np.float64]:
    """The exact two-sided p-value of each pair of discordant counts; 1 where both are 0."""
    b, c = np.broadcast_arrays(np.asarray(b, dtype=np.int64), np.asarray(c, dtype=np.int64))
    if (b < 0).any() or (c < 0).any():
        raise ValueError("b, c: counts must not be negative")
    tail = bdtr(np.minimum(b, c).astype(np.float64), b + c, 0.5)
    return np.asarray(np.minimum(1.0, 2.0 * tail), dtype=np.float64)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """P-values of several tests, adjusted so that the chance of any false finding stays what it is for one.

    In ascending order ``p'(k) = max(p'(k-1), min(1, (m - k) · p(k)))``, k = 0 .. m-1 (Holm, Scandinavian
    Journal of Statistics 6, 1979).
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted
