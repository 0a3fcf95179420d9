"""Streaming statistics of a tensor: all that a calibrator needs, in memory that samples hardly add to.

The histogram has the bins of floating point: each of the 31 octaves below ``2^exponent`` is cut into 1024,
so a bin is at most a thousandth as wide as its values are large, whatever the largest of all is. What lies
below ``2^(exponent−31)`` counts as zero. A bin is the upper bits of a float32, so that nothing is rounded:
magnitude bin ``1024·o + m + 1`` holds ``[1 + m/1024, 1 + (m+1)/1024) · 2^(exponent − 31 + o)``, negative
values have the mirror image, and bin 0 lies around zero.

The exponent is the least with ``max|x| < 2^exponent``. Raising it moves whole octaves down, the lowest into
bin 0, and never an observation to a wrong bin: the histogram depends on what was observed alone, not on its
order, its batches, or how it was divided between statistics that were merged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self, TypeAlias

import torch
from torch import Tensor

MANTISSA_BITS = 10
STEPS = 1 << MANTISSA_BITS
"""Bins an octave."""
OCTAVES = 31
HALF = OCTAVES * STEPS + 1
"""Bins of magnitudes, that around zero included."""
BINS = 2 * HALF - 1
MIN_EXPONENT = OCTAVES - 126
"""So that the lowest octave, from 2^-126 on, holds normal float32; smaller values count as zero."""

_CHUNK = 1 << 19
"""Elements binned at a time: temporaries stay in the cache."""
TakeRows: TypeAlias = Callable[[Tensor, int, Tensor | None], tuple[Tensor, int]]
"""Takes in a batch of one slot, faster than torch: (x, exponent, counts) to (rows, exponent).

x is float32 (n, m) on the CPU, its rows dense. counts, int64 (63489,) below ``2^exponent`` or None, are added
to, and moved to the exponent that is returned. rows, float32 (n, 2), are each row's min and max, 0 for -0.
Where x is not finite neither are rows, and counts stay as they are.
"""

_MOST_TAKEN = 1 << 31
"""Elements that counts of 32 bits hold."""
_PARTS = ("minimum", "maximum", "exponent", "counts", "rows", "updates")


def power_of_two(exponent: Tensor) -> Tensor:
    """``2^exponent`` as float64, exactly (`torch.ldexp` goes through pow): -1022..1023 written as bits."""
    return ((exponent.to(torch.int64) + 1023) << 52).view(torch.float64)


def _normalized_edges() -> Tensor:
    """The edges of the bins for the exponent 0, float64 (63490,)."""
    steps = 1 + torch.arange(STEPS, dtype=torch.float64) / STEPS
    octaves = power_of_two(torch.arange(-OCTAVES, 1)).unsqueeze(1)
    magnitudes = (octaves * steps).flatten()[:HALF]
    return torch.cat([-magnitudes.flip(0), magnitudes])


_EDGES = _normalized_edges()
_STARTS = torch.cat([_EDGES[1:HALF], torch.zeros(1, dtype=torch.float64), _EDGES[HALF:-1]])


class Statistics:
    """Exact min, max and count, a histogram of all observations, and each row's min and max.

    New ones are empty. Holds 508 KB a slot of ``qparam_shape`` and 8 bytes a row.

    Args:
        histogram: False leaves `counts` empty, for a calibrator that does not read them.
        take: takes in batches of one slot; None for torch, whose results it has, to the bit.

    Attributes:
        minimum, maximum: float32, qparam_shape. ±infinity while empty.
        exponent: int32, qparam_shape: all magnitudes are below ``2^exponent``.
        counts: int64, (*qparam_shape, 63489): observations by bin, from the most negative to the largest.
        rows: float32, (rows, 2, *qparam_shape): min and max of each row of each update, in order.
        updates: int64, (updates,): the rows of each update.
    """

    def __init__(self, *, histogram: bool = True, take: TakeRows | None = None) -> None:
        self._counting = histogram
        self._take = take
        self._shared = False  # whether others hold `counts`, too
        self.minimum = torch.tensor(torch.inf)
        self.maximum = torch.tensor(-torch.inf)
        self.exponent = torch.tensor(MIN_EXPONENT, dtype=torch.int32)
        self.counts = torch.zeros(BINS, dtype=torch.int64)
        self.rows = torch.zeros(0, 2)
        self.updates = torch.zeros(0, dtype=torch.int64)

    @property
    def count(self) -> int:
        """Observations of one slot; the same for all."""
        return int(self.counts.sum()) // max(self.minimum.numel(), 1)

    @property
    def edges(self) -> Tensor:
        """Ascending edges of the bins, float64, (*qparam_shape, 63490); bin 0 reaches to either side of 0."""
        return self.edge(torch.arange(BINS + 1).expand(*self.exponent.shape, -1))

    @property
    def starts(self) -> Tensor:
        """The edge of each bin on the side of zero, float64, (*qparam_shape, 63489); 0 for bin 0."""
        return _STARTS * power_of_two(self.exponent).unsqueeze(-1)

    def edge(self, number: Tensor) -> Tensor:
        """Some of the `edges`, float64, by their numbers from 0: int64 (*qparam_shape, n)."""
        return _EDGES[number] * power_of_two(self.exponent).unsqueeze(-1)

    @property
    def batches(self) -> Tensor:
        """Min and max of each update, in order: float32, (updates, 2, *qparam_shape)."""
        return by_update(self.rows, self.updates)

    @property
    def centres(self) -> Tensor:
        """The real value that stands for each bin, float32, (*qparam_shape, 63489); 0 for bin 0.

        The middle of the bin, or the minimum or maximum where that lies on its near side.
        """
        edges = self.edges
        middle = ((edges[..., 1:] + edges[..., :-1]) / 2).float()
        return middle.clamp(self.minimum.unsqueeze(-1), self.maximum.unsqueeze(-1))

    def update(self, observations: Tensor) -> None:
        """Take in one batch, floats of shape (n, *qparam_shape, m) as a granularity gives them.

        A row is one of the n: where each is one sample, calibrators know how many samples reach how far.

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
        take = self._take if x.ndim == 2 and x.device.type == "cpu" and x.numel() < _MOST_TAKEN else None
        if take is not None:
            dense = x if x.stride(1) == 1 else x.contiguous()
            rows, raised = take(dense, int(self.exponent), self._own_counts() if self._counting else None)
        else:
            # aminmax takes 20 times as long. -0 becomes 0: which one a minimum of both is depends on the CPU
            rows = torch.stack([x.amin(dim=-1), x.amax(dim=-1)], dim=1) + 0.0
        low, high = rows[:, 0].amin(dim=0), rows[:, 1].amax(dim=0)
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            raise ValueError(
                "observations contain NaN or infinity. Remedy: check that the float network gives finite "
                "values on these samples: its weights, and the normalization of its input"
            )
        if take is not None:
            self.exponent = torch.tensor(raised, dtype=torch.int32)
        else:
            exponent = torch.maximum(self.exponent, _exponent(torch.maximum(-low, high)))
            if self._counting:
                counts = _histogram(x, exponent, bool((low < 0).any()))
                self.counts = counts.add_(self._counts_at(exponent)) if len(self.updates) else counts
            self.exponent = exponent
        self.minimum = torch.minimum(self.minimum, low)
        self.maximum = torch.maximum(self.maximum, high)
        self.rows = torch.cat([self.rows, rows]) if len(self.updates) else rows
        self.updates = torch.cat([self.updates, torch.tensor([len(rows)])])

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both one's observations; `other`'s updates come after. Neither is changed."""
        if len(other.updates):
            self._check_shape(other.minimum.shape)
        merged = Statistics()
        merged.exponent = torch.maximum(self.exponent, other.exponent)
        merged.counts = self._counts_at(merged.exponent) + other._counts_at(merged.exponent)
        merged.minimum = torch.minimum(self.minimum, other.minimum)
        merged.maximum = torch.maximum(self.maximum, other.maximum)
        filled = [s.rows for s in (self, other) if len(s.updates)]
        merged.rows = torch.cat(filled) if filled else merged.rows
        merged.updates = torch.cat([self.updates, other.updates])
        return merged

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors, to be saved."""
        self._shared = True
        return {name: getattr(self, name).contiguous() for name in _PARTS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """What `to_tensors` gave. Raises `ValueError` where a part is missing or has another shape."""
        if missing := [name for name in _PARTS if name not in tensors]:
            raise ValueError(f"statistics lack {', '.join(missing)}: the file is not one of statistics")
        statistics = cls()
        for name in _PARTS:
            setattr(statistics, name, tensors[name])
        statistics._shared = True
        if statistics.counts.shape != (*statistics.minimum.shape, BINS):
            raise ValueError(
                f"counts have shape {tuple(statistics.counts.shape)}: must be "
                f"{(*statistics.minimum.shape, BINS)}. Remedy: observe again, the file is of another version"
            )
        return statistics

    def _own_counts(self) -> Tensor:
        """The counts, to be changed in place."""
        if self._shared:
            self.counts, self._shared = self.counts.clone(memory_format=torch.contiguous_format), False
        return self.counts

    def _counts_at(self, exponent: Tensor) -> Tensor:
        """The counts below the higher ``2^exponent``: octaves move down, the lowest into bin 0."""
        if torch.equal(exponent, self.exponent):
            return self.counts
        counts = self.counts.expand(*exponent.shape, BINS)
        moved = (exponent - self.exponent).clamp(max=OCTAVES).unsqueeze(-1) * STEPS
        number = torch.arange(1 - HALF, HALF)
        target = number.sign() * (number.abs() - moved).clamp(min=0) + (HALF - 1)
        return torch.zeros_like(counts).scatter_add_(-1, target, counts)

    def _check_shape(self, shape: torch.Size) -> None:
        if len(self.updates) and shape != self.minimum.shape:
            raise ValueError(
                f"observations have qparam_shape {tuple(shape)}, those before {tuple(self.minimum.shape)}: "
                "statistics of different granularity cannot be put together"
            )


def by_update(rows: Tensor, updates: Tensor) -> Tensor:
    """Min and max of each update, (updates, 2, *qparam_shape), from those of its rows, (rows, 2, …)."""
    parts = torch.split(rows, updates.tolist()) if len(updates) else ()
    found = [torch.stack([part[:, 0].amin(dim=0), part[:, 1].amax(dim=0)]) for part in parts]
    return torch.stack(found) if found else rows


def _exponent(magnitude: Tensor) -> Tensor:
    """The least exponent with ``magnitude < 2^exponent``, int32."""
    exponent = torch.frexp(magnitude).exponent
    return torch.where(magnitude == 0, MIN_EXPONENT, exponent).clamp(min=MIN_EXPONENT).to(torch.int32)


def _histogram(x: Tensor, exponent: Tensor, signed: bool) -> Tensor:
    """Counts (*qparam_shape, BINS) of x (n, *qparam_shape, m), all magnitudes below ``2^exponent``.

    `signed` says that there are negative values: their bins are counted behind the others', from 0 outwards.
    """
    # of the bits of the lowest octave's first value, the upper ones, less 1: what is no more lies in bin 0
    base = ((exponent - OCTAVES + 127) << MANTISSA_BITS) - 1
    width = 2 * HALF if signed else HALF
    if exponent.ndim == 0:
        counts = torch.zeros(width, dtype=torch.int64)
        for part in torch.split(x.reshape(-1), _CHUNK):
            counts += torch.bincount(_bins(part, int(base), signed), minlength=width)
    else:
        first = (torch.arange(exponent.numel()) * width).reshape(*exponent.shape, 1)
        index = _bins(x.contiguous(), base.unsqueeze(-1), signed) + first
        counts = torch.bincount(index.reshape(-1), minlength=exponent.numel() * width)
        counts = counts.reshape(*exponent.shape, width)
    negative = counts[..., HALF:] if signed else torch.zeros_like(counts)
    zero = counts[..., :1] + negative[..., :1]
    return torch.cat([negative[..., 1:].flip(-1), zero, counts[..., 1:HALF]], dim=-1)


def _bins(x: Tensor, base: int | Tensor, signed: bool) -> Tensor:
    """Each value's bin, int32: 0 .. HALF − 1 by magnitude, and for negative values HALF more."""
    bits = x.view(torch.int32)
    dropped = 23 - MANTISSA_BITS
    key = (bits & 0x7FFFFFFF).bitwise_right_shift_(dropped) if signed else bits >> dropped
    key = key.clamp_(min=base) if isinstance(base, int) else torch.maximum(key, base)
    key -= base
    return key.add_(bits >> 31, alpha=-HALF) if signed else key
