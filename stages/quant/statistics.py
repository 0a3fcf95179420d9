"""Streaming statistics of a tensor: all that a calibrator needs, in memory that samples do not add to.

The histogram has bins of width ``w = 2^(exponent−12)``, and the bin of x is ``trunc(x / w)``: integers
−4095..4095, where bin 0 holds ``(−w, w)``, bin j > 0 ``[jw, (j+1)w)`` and bin −j its mirror image. The
exponent is the least with ``max|x| < 2^exponent``, so at least 2048 bins lie between 0 and max|x|. Since
``trunc(trunc(x/w) / 2) = trunc(x / 2w)``, and scaling by a power of two is exact, widening the range
halves bin numbers and moves no observation to a wrong bin: the histogram depends on what was observed
alone, not on its order, its batches, or how it was divided between statistics that were merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

HALF = 4096
BINS = 2 * HALF - 1
MIN_EXPONENT = -100
"""Smaller values count as zero. It keeps the bin width, 2^-112, a normal float32."""

_CHUNK = 1 << 18
"""Elements binned at a time: temporaries stay in the cache."""
_PARTS = ("minimum", "maximum", "exponent", "counts", "batches")


class Statistics:
    """Exact min, max, count and nested histogram of all observations, and each update's min and max.

    New ones are empty. Holds 64 KB a slot of ``qparam_shape`` and 8 bytes an update.

    Args:
        histogram: False leaves `counts` empty, for a calibrator that does not read them.

    Attributes:
        minimum, maximum: float32, qparam_shape. ±infinity while empty.
        exponent: int32, qparam_shape: the histogram's range is ``±2^exponent``.
        counts: int64, (*qparam_shape, 8191): observations by bin, from −4095 to 4095.
        batches: float32, (updates, 2, *qparam_shape): min and max of each update, in order.
    """

    def __init__(self, *, histogram: bool = True) -> None:
        self._counting = histogram
        self.minimum = torch.tensor(torch.inf)
        self.maximum = torch.tensor(-torch.inf)
        self.exponent = torch.tensor(MIN_EXPONENT, dtype=torch.int32)
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.batches = torch.zeros(0, 2)

    @property
    def count(self) -> int:
        """Observations of one slot; the same for all."""
        return int(self.counts.sum()) // max(self.minimum.numel(), 1)

    @property
    def edges(self) -> Tensor:
        """Ascending edges of the bins, float64, (*qparam_shape, 8192). Bin 0 is twice as wide as others."""
        number = torch.cat([torch.arange(-HALF, 0), torch.arange(1, HALF + 1)])
        return number * self._width()

    @property
    def centres(self) -> Tensor:
        """The real value that stands for each bin, float32, (*qparam_shape, 8191); 0 for bin 0.

        The middle of the bin, or the minimum or maximum where that lies on its near side.
        """
        number = torch.arange(1 - HALF, HALF, dtype=torch.float64)
        middle = (number + 0.5 * number.sign()) * self._width()
        return middle.float().clamp(self.minimum.unsqueeze(-1), self.maximum.unsqueeze(-1))

    def update(self, observations: Tensor) -> None:
        """Take in one batch, floats of shape (n, *qparam_shape, m) as a granularity gives them.

        Raises:
            ValueError: NaN or infinity among them (nothing is taken in then), none at all, or another
                qparam_shape than before.
        """
        x = observations.detach().to(torch.float32)
        if x.numel() == 0:
            raise ValueError(
                f"observations of shape {tuple(x.shape)} are empty: there is nothing to learn from"
            )
        self._check_shape(x.shape[1:-1])
        low, high = torch.aminmax(x) if x.ndim == 2 else (x.amin(dim=(0, -1)), x.amax(dim=(0, -1)))
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            raise ValueError(
                "observations contain NaN or infinity. Remedy: check that the float network gives finite "
                "values on these samples: its weights, and the normalization of its input"
            )
        exponent = torch.maximum(self.exponent, _exponent(torch.maximum(-low, high)))
        if self._counting:
            self.counts = self._counts_at(exponent) + _histogram(x, exponent)
        self.exponent = exponent
        self.minimum = torch.minimum(self.minimum, low)
        self.maximum = torch.maximum(self.maximum, high)
        batch = torch.stack([low, high]).unsqueeze(0)
        self.batches = torch.cat([self.batches, batch]) if len(self.batches) else batch

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both one's observations; `other`'s batches come after. Neither is changed."""
        if other.batches.shape[0]:
            self._check_shape(other.minimum.shape)
        merged = Statistics()
        merged.exponent = torch.maximum(self.exponent, other.exponent)
        merged.counts = self._counts_at(merged.exponent) + other._counts_at(merged.exponent)
        merged.minimum = torch.minimum(self.minimum, other.minimum)
        merged.maximum = torch.maximum(self.maximum, other.maximum)
        filled = [s.batches for s in (self, other) if s.batches.shape[0]]
        merged.batches = torch.cat(filled) if filled else merged.batches
        return merged

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors, to be saved."""
        return {name: getattr(self, name).contiguous() for name in _PARTS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """What `to_tensors` gave. Raises `ValueError` where a part is missing or has another shape."""
        if missing := [name for name in _PARTS if name not in tensors]:
            raise ValueError(f"statistics lack {', '.join(missing)}: the file is not one of statistics")
        statistics = cls()
        for name in _PARTS:
            setattr(statistics, name, tensors[name])
        if statistics.counts.shape != (*statistics.minimum.shape, BINS):
            raise ValueError(
                f"counts have shape {tuple(statistics.counts.shape)}: must be "
                f"{(*statistics.minimum.shape, BINS)}. Remedy: observe again, the file is of another version"
            )
        return statistics

    def _width(self) -> Tensor:
        return _power_of_two(self.exponent - 12).double().unsqueeze(-1)

    def _counts_at(self, exponent: Tensor) -> Tensor:
        """The counts over the wider range ``±2^exponent``: bin numbers halve with each doubling."""
        if torch.equal(exponent, self.exponent):
            return self.counts
        counts = self.counts.expand(*exponent.shape, BINS)
        doublings = (exponent - self.exponent).clamp(max=13).unsqueeze(-1)
        number = torch.arange(1 - HALF, HALF)
        target = number.sign() * (number.abs() >> doublings) + (HALF - 1)
        return torch.zeros_like(counts).scatter_add_(-1, target, counts)

    def _check_shape(self, shape: torch.Size) -> None:
        if len(self.batches) and shape != self.minimum.shape:
            raise ValueError(
                f"observations have qparam_shape {tuple(shape)}, those before {tuple(self.minimum.shape)}: "
                "statistics of different granularity cannot be put together"
            )


def _exponent(magnitude: Tensor) -> Tensor:
    """The least exponent with ``magnitude < 2^exponent``, int32."""
    exponent = torch.frexp(magnitude).exponent
    return torch.where(magnitude == 0, MIN_EXPONENT, exponent).clamp(min=MIN_EXPONENT).to(torch.int32)


def _power_of_two(exponent: Tensor) -> Tensor:
    """``2^exponent`` as float32, exactly (`torch.ldexp` goes through pow): -126..127 written to its bits."""
    return ((exponent + 127) << 23).to(torch.int32).view(torch.float32)


def _histogram(x: Tensor, exponent: Tensor) -> Tensor:
    """Counts (*qparam_shape, BINS) of x (n, *qparam_shape, m), all within ``±2^exponent``."""
    per_width = _power_of_two(12 - exponent).unsqueeze(-1)
    if x.ndim == 2:
        counts = torch.zeros(BINS, dtype=torch.int64)
        for part in torch.split(x.reshape(-1), _CHUNK):
            counts += torch.bincount((part * per_width).to(torch.int16).add_(HALF - 1), minlength=BINS)
        return counts
    slots = exponent.numel()
    first = (torch.arange(slots) * BINS + HALF - 1).reshape(*exponent.shape, 1)
    index = (x * per_width).to(torch.int64).add_(first)
    return torch.bincount(index.reshape(-1), minlength=slots * BINS).reshape(*exponent.shape, BINS)
