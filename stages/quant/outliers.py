"""What is abnormal among observations: few, and far beyond all others. It says nothing about a range.

One damaged image among a thousand, or one overflow among a million values, may be 10^4 or 10^6 times as large
as all else. A range that covers it leaves the others a level or two. So calibrators choose a range for the
*usual* observations, and the run warns:

- Where rows are samples, 8 of them or more: abnormal is a row whose largest magnitude is more than 16 times
  what all rows but a 32nd (at least one) stay within. Natural images differ by 2 or 3 times; and a value that
  is as large in many samples is part of the network (transformers have such), not of a damaged sample.
- Else, by values: abnormal is a magnitude more than 256 times what all but one in 4096 of the values beside
  zero stay within, the `bulk`. On 8 bits that cover it, all these would round to 0 and the levels next to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.quant.statistics import HALF, STEPS, Statistics

LEAST_ROWS = 8
ROWS = 32
ROW_FACTOR = 16.0
VALUES = 4096
_FACTOR_BINS = 8 * STEPS  # 256 times as large is eight octaves up


@dataclass(frozen=True, kw_only=True)
class Abnormal:
    """The abnormal observations of one tensor.

    Args:
        limit: the largest magnitude of the usual ones.
        largest: the largest of all.
        rows: the abnormal rows, ascending; empty where rows are too few to tell.
        of: how many rows there are.
    """

    limit: float
    largest: float
    rows: tuple[int, ...]
    of: int


def usual_limit(statistics: Statistics) -> Tensor:
    """The largest magnitude that is not abnormal, float32 of qparam_shape."""
    if len(statistics.rows) >= LEAST_ROWS:
        return _limit_by_rows(statistics)
    largest = torch.maximum(-statistics.minimum, statistics.maximum)
    few = statistics.count < VALUES
    return largest if few else torch.minimum(_limit_by_values(statistics), largest)


def usual_extremes(statistics: Statistics) -> tuple[Tensor, Tensor]:
    """The (min, max) of what is not abnormal, both float32 of qparam_shape."""
    if len(statistics.rows) >= LEAST_ROWS:
        usual = usual_rows(statistics)
        low = torch.where(usual, statistics.rows[:, 0], torch.inf).amin(dim=0)
        return low, torch.where(usual, statistics.rows[:, 1], -torch.inf).amax(dim=0)
    limit = usual_limit(statistics)
    return torch.maximum(statistics.minimum, -limit), torch.minimum(statistics.maximum, limit)


def usual_rows(statistics: Statistics) -> Tensor:
    """Which rows are not abnormal, bool (rows, *qparam_shape); all where they are too few to tell."""
    magnitudes = _magnitudes(statistics.rows)
    if len(magnitudes) < LEAST_ROWS:
        return torch.ones_like(magnitudes, dtype=torch.bool)
    return magnitudes <= _limit_by_rows(statistics)


def abnormal(statistics: Statistics) -> Abnormal | None:
    """What is abnormal among the observations of a whole tensor (qparam_shape ``()``); None for nothing."""
    limit, largest = float(usual_limit(statistics)), float(_magnitudes(statistics.rows).amax())
    if largest <= limit:
        return None
    unusual = torch.nonzero(~usual_rows(statistics)).flatten()
    return Abnormal(limit=limit, largest=largest, rows=tuple(unusual.tolist()), of=len(statistics.rows))


def _magnitudes(rows: Tensor) -> Tensor:
    """The largest magnitude of each row, float32 (rows, *qparam_shape)."""
    return torch.maximum(-rows[:, 0], rows[:, 1])


def _limit_by_rows(statistics: Statistics) -> Tensor:
    magnitudes = _magnitudes(statistics.rows)
    few = max(1, len(magnitudes) // ROWS)
    reach = magnitudes.sort(dim=0, descending=True).values[few]
    # where all other rows are zero, nothing is known of what is usual
    within = (magnitudes <= ROW_FACTOR * reach) | (reach == 0.0)
    return torch.where(within, magnitudes, 0.0).amax(dim=0)


def bulk(statistics: Statistics) -> Tensor:
    """The magnitude that all but one in 4096 of the values beside zero stay within, float32 of qparam_shape.

    The upper edge of a bin; values must have been counted.
    """
    reach = _reach(_by_magnitude(statistics))
    return statistics.edge(HALF + 1 + reach).squeeze(-1).float()


def _limit_by_values(statistics: Statistics) -> Tensor:
    """The upper edge of the last bin that is not abnormal; infinity where nothing beside zero was counted."""
    counts = _by_magnitude(statistics)
    number = torch.arange(HALF - 1)
    within = (counts > 0) & (number <= _reach(counts) + _FACTOR_BINS)
    last = (number * within).amax(dim=-1, keepdim=True)
    edge = statistics.edge(HALF + 1 + last).squeeze(-1).float()
    return torch.where(counts.sum(dim=-1) > 0, edge, torch.inf)


def _by_magnitude(statistics: Statistics) -> Tensor:
    """Counts of the bins beside bin 0 by magnitude, int64 (*qparam_shape, 31744)."""
    return statistics.counts[..., HALF:] + statistics.counts[..., : HALF - 1].flip(-1)


def _reach(counts: Tensor) -> Tensor:
    """The first bin of magnitudes that leaves no more than one in 4096 beyond it, (*qparam_shape, 1)."""
    within = counts.cumsum(-1)
    total = within[..., -1:]
    return (total - within > total // VALUES).sum(dim=-1, keepdim=True)
