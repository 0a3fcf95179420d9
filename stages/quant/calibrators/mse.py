"""The range that minimizes the squared error of rounding and clipping, over the histogram.

``error(min, max) = Σ_bins count · (x − fake_quantize(x))²``, with the scheme's own grid over (min, max), so
rounding, clipping and the zero point's rounding all count. The optimum balances clipping a few large
values against smaller steps for all others; the fewer the bits, the narrower it is.

Search, from the observed range, keeping the best so far: shrink both ends together by every multiple of
1/32; then move each end on its own, three times, by up to three steps of 1/4, 1/16 and 1/64. The observed
range is among the candidates, so the result is never worse than min/max.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stages.quant.qparams import QParams, fake_quantize
from stages.quant.statistics import Statistics

_TOGETHER = 1 - torch.arange(32) / 32
_APART = tuple(1 + step * torch.arange(-3, 4) for step in (1 / 4, 1 / 16, 1 / 64))


@dataclass(frozen=True, kw_only=True)
class Mse:
    """Least mean squared error, with both ends found to about 1%."""

    def range(
        self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]
    ) -> tuple[Tensor, Tensor]:
        """The range with the least error among the candidates."""
        search = _Search(statistics, qparams)
        search.propose(_TOGETHER, _TOGETHER)
        for factors in _APART:
            search.propose(factors, torch.ones_like(factors))
            search.propose(torch.ones_like(factors), factors)
        return search.low, search.high


class _Search:
    """The best range so far, for each slot.

    Attributes:
        low, high: float32, qparam_shape.
        error: float64, qparam_shape: the squared error there, summed over observations.
    """

    def __init__(self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]) -> None:
        self._statistics, self._qparams = statistics, qparams
        occupied = (statistics.counts > 0).reshape(-1, statistics.counts.shape[-1]).any(dim=0)
        self._x = statistics.centres[..., occupied]
        self._counts = statistics.counts[..., occupied].double()
        self.low, self.high = statistics.minimum, statistics.maximum
        self.error = torch.full_like(self.low, torch.inf, dtype=torch.float64)

    def propose(self, low_factors: Tensor, high_factors: Tensor) -> None:
        """Try the best range with its ends multiplied, and cut to the observed range; both (K,)."""
        shape = (-1, *[1] * self.low.ndim)
        low = torch.maximum(low_factors.reshape(shape) * self.low, self._statistics.minimum)
        high = torch.minimum(high_factors.reshape(shape) * self.high, self._statistics.maximum)
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
