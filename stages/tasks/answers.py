"""Right answers, counted batch by batch."""

from __future__ import annotations

import torch
from torch import Tensor


def right_of_all(right: Tensor) -> Tensor:
    """How many of truth values are true, and how many there are; int64 (2,)."""
    return torch.stack([right.sum(), torch.ones_like(right).sum()])


def share(tally: Tensor) -> float:
    """The first of two counts, (2,), over the second; NaN where that is 0."""
    right, total = tally.tolist()
    return float(right / total) if total else float("nan")
