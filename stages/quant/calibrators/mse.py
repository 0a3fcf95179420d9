"""The range that minimizes the squared error of rounding and clipping, over the histogram.

``error(min, max) = Σ_bins count · (x − fake_quantize(x))²``, with the scheme's own grid over (min, max), so
rounding, clipping and the zero point's rounding all count. The optimum balances clipping a few large
values against smaller steps for all others; the fewer the bits, the narrower it is.

Search, keeping the best so far: multiply both ends of the observed range by powers of 2^(-1/4); put each end
in turn, twice, at the observed one times powers of 2^(-1/2), which finds lopsided ranges; then move both
ends and each end by up to 3/16 and up to 3/64. The observed range is among the candidates, so the result is
never worse than min/max. Abnormal observations (`stages.quant.outliers`) have no error: a single one of 10^6
would outweigh a million others. No candidate clips more than half of the rest, as the least error of 2 bits
may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from stages.quant.calibrators.guard import HALF
from stages.quant.linear import linear
from stages.quant.outliers import usual_extremes, usual_limit
from stages.quant.qparams import QParams, fake_quantize
from stages.quant.statistics import Statistics

_TOGETHER = 2.0 ** (-torch.arange(28) / 4)
_APART = 2.0 ** (-torch.arange(14) / 2)
_FINE = (1 - torch.arange(-3, 4) / 16, 1 - torch.arange(-3, 4) / 64)


@dataclass(frozen=True, kw_only=True)
class Mse:
    """Least mean squared error, with both ends found to about 1%."""

    reads_histogram: ClassVar[bool] = True

    def range(
        self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]
    ) -> tuple[Tensor, Tensor]:
        """The range with the least error among the candidates."""
        search = _Search(statistics, qparams)
        search.propose(_times(search.low, _TOGETHER), _times(search.high, _TOGETHER))
        observed_low, observed_high = search.observed
        for _ in range(2):
            search.propose(_times(observed_low, _APART), search.high)
            search.propose(search.low, _times(observed_high, _APART))
        for factors in _FINE:
            search.propose(_times(search.low, factors), _times(search.high, factors))
            search.propose(_times(search.low, factors), search.high)
            search.propose(search.low, _times(search.high, factors))
        search.widen()
        shape = statistics.minimum.shape
        return search.low.reshape(shape), search.high.reshape(shape)


def _times(end: Tensor, factors: Tensor) -> Tensor:
    """Candidates (K, S) for one end (S,) of the range."""
    return factors.unsqueeze(1) * end


class _Search:
    """The best range so far, for each slot; slots (S,) in a row.

    Attributes:
        observed: the whole range of what is usual, widened to contain 0: (min, max), float32 (S,).
        low, high: float32 (S,).
        error: float64 (S,): the squared error there, summed over observations.
    """

    def __init__(self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]) -> None:
        self._qparams = qparams
        low, high = (end.reshape(-1) for end in usual_extremes(statistics))
        fine = linear(statistics, usual_limit(statistics))
        occupied = (fine.counts > 0).any(dim=0)
        self._x = fine.centres.float().clamp(low.unsqueeze(1), high.unsqueeze(1))[:, occupied]
        self._counts = fine.counts[:, occupied].double()
        self._below = torch.nn.functional.pad(self._counts.cumsum(dim=1), (1, 0))
        self.observed = low.clamp(max=0.0), high.clamp(min=0.0)
        self._edges = [
            edge[:, occupied].float().clamp(low.unsqueeze(1), high.unsqueeze(1)) for edge in fine.edges
        ]
        self.low, self.high = self.observed
        self.error = torch.full_like(self.low, torch.inf, dtype=torch.float64)

    def propose(self, low: Tensor, high: Tensor) -> None:
        """Try ranges, each end (K, S), or (S,) for K alike: cut to the observed one."""
        low = torch.maximum(low, self.observed[0]) + torch.zeros_like(high)
        high = torch.minimum(high, self.observed[1]) + torch.zeros_like(low)
        error = self._errors(low, high)
        error = torch.cat([self.error.unsqueeze(0), error])
        best = error.argmin(dim=0, keepdim=True)  # the first of equals: what was found, else the widest
        self.low = torch.cat([self.low.unsqueeze(0), low]).gather(0, best).squeeze(0)
        self.high = torch.cat([self.high.unsqueeze(0), high]).gather(0, best).squeeze(0)
        self.error = error.gather(0, best).squeeze(0)

    def widen(self) -> None:
        """Move the ends out to those of the grid where that leaves the grid as it is.

        A symmetric grid reaches as far to one side as to the other, one of powers of two up to twice as far.
        """
        grid = self._qparams(self.low, self.high)
        ends = [grid.scale * (level - grid.zero_point) for level in (grid.quant_min, grid.quant_max)]
        low = torch.maximum(torch.minimum(ends[0], self.low), self.observed[0])
        high = torch.minimum(torch.maximum(ends[1], self.high), self.observed[1])
        free = self._errors(low.unsqueeze(0), high.unsqueeze(0)).squeeze(0) <= self.error * (1 + 1e-6)
        self.low, self.high = torch.where(free, low, self.low), torch.where(free, high, self.high)

    def _errors(self, low: Tensor, high: Tensor) -> Tensor:
        """The squared error of each range, (K, S); infinity where it holds less than `HALF` of the values."""
        grids = self._qparams(low.reshape(-1), high.reshape(-1))
        scales, zero_points = grids.scale.reshape(low.shape), grids.zero_point.reshape(low.shape)
        errors = []
        for scale, zero_point in zip(scales, zero_points, strict=True):
            grid = replace(grids, scale=scale, zero_point=zero_point, ch_axis=0)  # the slots are in front
            difference = fake_quantize(self._x, grid).sub_(self._x).double()
            errors.append(difference.square_().mul_(self._counts).sum(dim=-1))
        held = self._held(low, high)
        return torch.where(held < HALF * self._below[:, -1], torch.inf, torch.stack(errors))

    def _held(self, low: Tensor, high: Tensor) -> Tensor:
        """How many values lie in bins that are wholly within each range, float64 (K, S)."""
        left, right = self._edges
        first = torch.searchsorted(left, low.T.contiguous())
        last = torch.searchsorted(right, high.T.contiguous(), right=True)
        return (self._below.gather(1, last) - self._below.gather(1, first)).T
