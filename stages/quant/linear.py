"""The fine bins of `Statistics`, merged to bins of one width: what searches over ranges count with.

Bins of width ``w = 2^(e − 11)``, number j for ``trunc(x / w) = j``: bin 0 holds ``(−w, w)``. The exponent e
is the least with ``limit < 2^e``, so 1024 to 2048 bins lie between 0 and the limit. In the highest octave the
fine bins are as wide as these; below, a power of two of them makes one: no value is counted in a wrong bin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.quant.statistics import HALF, MANTISSA_BITS, OCTAVES, STEPS, Statistics, power_of_two

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

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """The lower and the upper edge of each bin, float64 (S, 4095)."""
        number = torch.arange(1 - LINEAR_HALF, LINEAR_HALF, dtype=torch.float64)
        return (number - (number <= 0).double()) * self.width, (number + (number >= 0).double()) * self.width


def linear(statistics: Statistics, limit: Tensor) -> Linear:
    """Merge the bins of magnitudes up to `limit`, float32 of qparam_shape; leave out those beyond.

    Where the limit is less than 2^-20 of the largest magnitude, the bins are as wide as `Statistics`' bin 0
    and so fewer than 1024.
    """
    exponent = statistics.exponent.reshape(-1, 1)
    finest = exponent - OCTAVES + _BITS
    limit = limit.reshape(-1, 1)
    chosen = torch.frexp(limit).exponent.clamp(max=exponent).clamp(min=finest)
    width = power_of_two(chosen - _BITS)
    # fine bins of magnitudes below each multiple of the width, 1..2048 times: (1 + m/1024) · 2^o of 2^-31
    fraction, octave = torch.frexp(torch.arange(1, LINEAR_HALF + 1, dtype=torch.float64))
    octave = octave - 1 + chosen - _BITS - exponent + OCTAVES
    fine = octave.long() * STEPS + ((2 * fraction - 1) * STEPS).long()
    below = torch.nn.functional.pad(statistics.counts.reshape(len(exponent), -1).cumsum(1), (1, 0))
    up, down = below.gather(1, HALF + fine), below.gather(1, HALF - 1 - fine)
    counts = torch.cat([down.flip(1).diff(dim=1), (up - down)[:, :1], up.diff(dim=1)], dim=1)
    number = torch.arange(1 - LINEAR_HALF, LINEAR_HALF).abs()
    return Linear(counts=counts * (number * width <= limit), width=width)
