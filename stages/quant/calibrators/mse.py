"""The range that minimizes the squared error of rounding and clipping, over the histogram.

``error(min, max) = Σ_bins count · (x − fake_quantize(x))²``, with the scheme's own grid over (min, max), so
rounding, clipping and the zero point's rounding all count. The optimum balances clipping a few large
values against smaller steps for all others; the fewer the bits, the narrower it is.

Search, keeping the best so far: multiply both ends of the observed range by powers of 2^(-1/4); put each end
in turn, twice, at the observed one times powers of 2^(-1/2), which finds lopsided ranges; then move both
ends and each end by up to 3/16 and up to 3/64. The observed range is among the candidates, so the result is
never worse than min/max.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from stages.quant.qparams import QParams, fake_quantize
from stages.quant.statistics import Statistics

_TOGETHER = 2.0 ** (-torch.arange(28) / 4)
_APART = 2.0 ** (-torch.arange(14) / 2)
_FINE = (1 + torch.arange(-3, 4) / 16, 1 + torch.arange(-3, 4) / 64)


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
        return search.low, search.high


def _times(end: Tensor, factors: Tensor) -> Tensor:
    """Candidates (K, *qparam_shape) for one end of the range."""
    return factors.reshape(-1, *[1] * end.ndim) * end


class _Search:
    """The best range so far, for each slot.

    Attributes:
        observed: the whole range, widened to contain 0: (min, max), float32, qparam_shape.
        low, high: float32, qparam_shape.
        error: float64, qparam_shape: the squared error there, summed over observations.
    """

    def __init__(self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]) -> None:
        self._qparams = qparams
        occupied = (statistics.counts > 0).reshape(-1, statistics.counts.shape[-1]).any(dim=0)
        self._x = statistics.centres[..., occupied]
        self._counts = statistics.counts[..., occupied].double()
        self.observed = statistics.minimum.clamp(max=0.0), statistics.maximum.clamp(min=0.0)
        self.low, self.high = self.observed
        self.error = torch.full_like(self.low, torch.inf, dtype=torch.float64)

    def propose(self, low: Tensor, high: Tensor) -> None:
        """Try ranges, cut to the observed one; each end (K, *qparam_shape), or qparam_shape for K alike."""
        low = torch.maximum(low, self.observed[0]) + torch.zeros_like(high)
        high = torch.minimum(high, self.observed[1]) + torch.zeros_like(low)
        error = self._errors(low, high)
        error, best = torch.cat([self.error.unsqueeze(0), error]).min(dim=0, keepdim=True)
        self.low = torch.cat([self.low.unsqueeze(0), low]).gather(0, best).squeeze(0)
        self.high = torch.cat([self.high.unsqueeze(0), high]).gather(0, best).squeeze(0)
        self.error = error.squeeze(0)

    def _errors(self, low: Tensor, high: Tensor) -> Tensor:
        """The squared error of each range, (K, *qparam_shape)."""
        grids = self._qparams(low.reshape(-1), high.reshape(-1))
        axis = 0 if self.low.ndim else None  # the histogram's slots are in front, wherever they came from
        errors = []
        for scale, zero_point in zip(
            grids.scale.reshape(low.shape), grids.zero_point.reshape(low.shape), strict=True
        ):
            grid = replace(grids, scale=scale, zero_point=zero_point, ch_axis=axis)
            difference = fake_quantize(self._x, grid).sub_(self._x).double()
            errors.append(difference.square_().mul_(self._counts).sum(dim=-1))
        return torch.stack(errors)
