"""How well scores rank: area under the ROC curve, average precision. Ties count as ties."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auroc(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """Share of pairs (positive, negative) in which the positive has the larger score; ties count half.

    None where there is no such pair.

    Args:
        scores: (N,).
        positive: (N,).
    """
    values, places = np.unique(scores, return_inverse=True)
    wins = np.bincount(places[positive], minlength=len(values)).astype(np.float64)
    losses = np.bincount(places[~positive], minlength=len(values)).astype(np.float64)
    pairs = wins.sum() * losses.sum()
    if not pairs:
        return None
    below = np.cumsum(losses) - losses
    return float((wins * (below + 0.5 * losses)).sum() / pairs)


def average_precision(scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> float | None:
    """``Σ (recall_i − recall_{i−1}) · precision_i`` over the distinct scores, from the largest down.

    None where nothing is positive.

    Args:
        scores: (N,).
        positive: (N,).
    """
    found = int(positive.sum())
    if not found:
        return None
    values, places = np.unique(-scores, return_inverse=True)
    hits = np.bincount(places[positive], minlength=len(values))
    taken = np.cumsum(np.bincount(places, minlength=len(values)))
    precision = np.cumsum(hits) / taken
    return float((hits * precision).sum() / found)
