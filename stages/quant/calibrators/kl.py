"""The clipping threshold that loses least information: entropy calibration, as in TensorRT.

For each number i of bins of |x| that are kept:

Bins are those of `stages.quant.linear`, of what is usual and within 4 times the bulk
(`stages.quant.outliers`).

- P: the first i bins' counts, with all counts beyond added to bin i−1; divided by their sum.
- Q: the same bins without what lies beyond, merged to the grid's L levels (bin j goes to level
  ``⌊(j + ½)·L/i⌋``: no bin is left over where L does not divide i), each level's count spread evenly over
  its bins that P does not leave empty; divided by their sum.
- ``KL(P‖Q) = Σ_j P_j log(P_j / Q_j)``; the i with the least gives the threshold ``(i + ½) · bin width``.

Q is mixed with 1e-4 of the uniform distribution over P's non-empty bins, without which an empty bin i−1 that
receives the clipped counts makes the divergence infinite. Bin 0 takes its neighbour's count: zero is a level
of every grid, so the spike of zeros behind a ReLU is kept exactly and says nothing about the threshold.
A candidate keeps at least 99% of the counts: P shows what is clipped in its last bin alone, so where the
first bins are empty, keeping the first that is not gives ``P = Q``, no divergence and no network (values in
1..3, gates in 0.3..0.7). With 8 bits and tails that fall off, the thresholds clip a tenth of that.
Szymon Migacz, "8-bit inference with TensorRT", GTC 2017.

As Q is constant over a level's bins, ``Σ P log Q`` needs one logarithm a level, of sums that are differences
of cumulative sums: O(L) a candidate instead of O(i).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.quant.linear import LINEAR_HALF, linear
from stages.quant.outliers import bulk, usual_extremes, usual_limit
from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics

SMOOTHING = 1e-4
KEPT = 0.99
"""The least share of the magnitudes that a candidate keeps."""
SPAN = 4.0
"""Times the bulk, the largest threshold: with few values far beyond, the others would have too few bins."""
_CHUNK = 256
"""Candidates evaluated at a time: their levels' sums stay in the cache."""


@dataclass(frozen=True, kw_only=True)
class Kl:
    """Keeps ``[−t, t]``, cut to the observed min and max, so one-sided data stays one-sided.

    L counts the levels from zero to the farther end of the observed range: 128 for symmetric signed and for
    affine grids over ``[−t, t]``, 255 or 256 for one-sided data. Where an affine range is lopsided, one
    threshold still serves both ends: the farther one is clipped first.

    Args:
        stride: bins between candidates. 1 tries all of up to 2048 bins; 2 costs half, and may miss the best:
            neighbouring candidates differ in how many bins each level has.
    """

    reads_histogram: ClassVar[bool] = True

    stride: int = 1

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ValueError(f"stride={self.stride}: must be at least 1, which tries every bin")

    def range(
        self, statistics: Statistics, qparams: Callable[[Tensor, Tensor], QParams]
    ) -> tuple[Tensor, Tensor]:
        """The range whose quantized distribution diverges least from the observed one."""
        low, high = usual_extremes(statistics)
        grid = qparams(low.reshape(-1), high.reshape(-1))
        farther = torch.where(
            (high >= -low).reshape(-1), grid.quant_max - grid.zero_point, grid.zero_point - grid.quant_min
        )
        fine = linear(statistics, torch.minimum(usual_limit(statistics), SPAN * bulk(statistics)))
        kept = self._kept(_magnitudes(fine.counts), farther.long() + 1)
        threshold = ((kept + 0.5) * fine.width.squeeze(1)).reshape(low.shape).float()
        return torch.maximum(low.clamp(max=0.0), -threshold), torch.minimum(high.clamp(min=0.0), threshold)

    def _kept(self, counts: Tensor, levels: Tensor) -> Tensor:
        """The best number of bins to keep, int64 (S,), of counts (S, 2048) and levels (S,)."""
        bins = counts.shape[1]
        occupied = torch.arange(1, bins + 1).mul(counts > 0).amax(dim=1)
        keeping = (counts.cumsum(dim=1) < KEPT * counts.sum(dim=1, keepdim=True)).sum(dim=1) + 1
        fewest = torch.minimum(torch.maximum(levels, keeping), occupied)
        # candidates count down from the occupied bins, so that "nothing clipped" is always one
        candidate = occupied[:, None] - torch.arange(0, bins, self.stride)
        slot, column = torch.nonzero(candidate >= fewest[:, None].clamp(min=1), as_tuple=True)
        divergence = torch.full(candidate.shape, torch.inf, dtype=torch.float64)
        sums = _Sums.of(counts)
        for first in range(0, len(slot), _CHUNK):
            s, c = slot[first : first + _CHUNK], column[first : first + _CHUNK]
            divergence[s, c] = sums.divergence(s, candidate[s, c], levels[s])
        best = candidate.gather(1, divergence.argmin(dim=1, keepdim=True)).squeeze(1)
        return torch.where(occupied > 0, best, bins)


def _magnitudes(counts: Tensor) -> Tensor:
    """Counts of |x| by bin, float64 (S, 2048), with the neighbour's count in bin 0."""
    positive, negative = counts[:, LINEAR_HALF:], counts[:, : LINEAR_HALF - 1].flip(1)
    beside_zero = (positive + negative).double()
    return torch.cat([beside_zero[:, :1], beside_zero], dim=1)


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Sums over the first i bins, for i = 0..bins: float64 (S, bins + 1).

    Args:
        counts: of the counts.
        occupied: of the bins that are not empty.
        entropy: of ``h log h`` for each count h.
    """

    counts: Tensor
    occupied: Tensor
    entropy: Tensor

    @classmethod
    def of(cls, counts: Tensor) -> _Sums:
        """The sums over counts (S, bins)."""

        def summed(x: Tensor) -> Tensor:
            return torch.nn.functional.pad(x.cumsum(dim=1), (1, 0))

        return cls(
            counts=summed(counts),
            occupied=summed((counts > 0).double()),
            entropy=summed(torch.special.xlogy(counts, counts)),
        )

    def divergence(self, slot: Tensor, kept: Tensor, levels: Tensor) -> Tensor:
        """KL(P‖Q) for `kept` bins in `levels` levels of a slot's counts; all (n,). Returns (n,)."""
        most = int(levels.max())
        i, L = kept[:, None], levels[:, None]
        # the first bin whose middle lies at or beyond level g's lower end; levels beyond a slot's L are empty
        edge = torch.minimum((2 * i * torch.arange(most + 1) + L - 1) // (2 * L), i)
        edge += slot[:, None] * self.counts.shape[1]
        mass = self.counts.take(edge).diff(dim=1)
        bins = self.occupied.take(edge).diff(dim=1)

        total, inside = self.counts[slot, -1], self.counts[slot, kept]
        clipped = total - inside
        last = inside - self.counts[slot, kept - 1]
        newly_occupied = ((last == 0) & (clipped > 0)).double()
        final = (levels - 1)[:, None]
        bins.scatter_add_(1, final, newly_occupied[:, None])
        uniform = SMOOTHING / (self.occupied[slot, kept] + newly_occupied)

        q = (1 - SMOOTHING) / inside.clamp(min=1)[:, None] * mass / bins.clamp(min=1) + uniform[:, None]
        p = mass.scatter_add(1, final, clipped[:, None])
        p_log_p = self.entropy[slot, kept - 1] + torch.special.xlogy(last + clipped, last + clipped)
        divergence: Tensor = (p_log_p - (p * q.log()).sum(dim=1)) / total - total.log()
        return divergence
