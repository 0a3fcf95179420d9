"""The fine bins of `Statistics`, merged to bins of one width: what searches over ranges count with.

Bins of width ``w = 2^(e − 11)``, number j for ``trunc(x / w) = j``: bin 0 holds ``(−w, w)``. The exponent e
is the least with ``limit < 2^e``, so 1024 to 2048 bins lie between 0 and the limit. In the highest octave the
fine bins are as wide as these; below, a power of two of them makes one: no value is counted in a wrong bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.quant.statistics import MANTISSA_BITS, OCTAVES, STEPS, Statistics, power_of_two

LINEAR_HALF = 2 * STEPS
"""Bins of magnitudes, that around zero included."""
_BITS = MANTISSA_BITS + 1


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Counts by bins of one width, all slots in a row.

    Args:
        counts: int64 (S, 4095), of the bins −2047..2047.
        width: float64 (S, 1), of each slot's bins.
    """

    counts: Tensor
    width: Tensor

    @property
    def centres(self) -> Tensor:
        """The middle of each bin, float64 (S, 4095); 0 for bin 0."""
        number = torch.arange(1 - LINEAR_HALF, LINEAR_HALF, dtype=torch.float64)
        return (number + 0.5 * number.sign()) * self.width


def linear(statistics: Statistics, limit: Tensor) -> Linear:
    """Merge the bins of magnitudes up to `limit`, float32 of qparam_shape; leave out what lies beyond.

    Where the limit is less than 2^-20 of the largest magnitude, the bins are as wide as `Statistics`' bin 0
    and so fewer than 1024.
    """
    exponent = statistics.exponent.reshape(-1, 1)
    finest = exponent - OCTAVES + _BITS
    chosen = torch.frexp(limit.reshape(-1, 1)).exponent.clamp(max=exponent).clamp(min=finest)
    width = power_of_two(chosen - _BITS)
    starts = statistics.starts.reshape(len(exponent), -1)
    counts = statistics.counts.reshape(len(exponent), -1) * (starts.abs() <= limit.reshape(-1, 1))
    number = (starts / width).to(torch.int64).clamp_(1 - LINEAR_HALF, LINEAR_HALF - 1)
    merged = torch.zeros(len(exponent), 2 * LINEAR_HALF - 1, dtype=torch.int64)
    return Linear(counts=merged.scatter_add_(1, number + (LINEAR_HALF - 1), counts), width=width)
