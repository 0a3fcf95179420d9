"""Additive powers of two: levels closer around zero, where weights are (Li et al. 2020, arXiv 1909.13144).

A magnitude of k bits, one fewer than the weight's, is a sum of n = ⌈k/2⌉ terms, each 0 or one of three
powers of two (of one, in the last term of an odd k):

    ``|q| = Σ_i p_i``,  ``p_i ∈ {0, 2^−i, 2^−(i+n), 2^−(i+2n)}``   (eq. 5, 6),

multiples of a common step. On the int8 grid of these steps integer kernels compute with them as with any
weights, exactly:

====  ===========================================================  ============
bits  magnitudes, in steps                                         largest
====  ===========================================================  ============
2     0 1                                                          1
3     0 1 2 4                                                      4
4     0 1 2 3 4 6 8 10                                             10
5     0 1 2 3 4 6 8 9 12 16 18 24 32 33 36 48                      48
6–8   all: the exponents of 5 bits and more for a magnitude leave  2^(b−1) − 1
      the grid of 8 bits
====  ===========================================================  ============

The paper learns the clipping value α, of which the largest level stands; its gradient, ``q̂(w/α) − w/α``
inside and the sign of w outside (eq. 8), is that of a learned step (`estimator=lsq`) in other units. Its
normalization of weights is left out: scales of channels, which move with BatchNorm's gain, do what it is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from stages.quant.kmeans import midpoints
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import check_bits, usable, widened

TERMS = {
    2: ((1,),),
    3: ((4, 2, 1),),
    4: ((8, 4, 1), (2,)),
    5: ((32, 8, 2), (16, 4, 1)),
}
"""By bits, the terms of a magnitude: one of the powers of two of each, or 0, in steps."""


@dataclass(frozen=True, kw_only=True)
class AdditivePowersOfTwo:
    """Weights only: what kernels compute between layers is rounded to an even grid.

    Args:
        bits: 2..8; from 6 on as `Symmetric`.
    """

    elementwise: ClassVar[bool] = True
    signed: ClassVar[bool] = True

    bits: int = 4

    def __post_init__(self) -> None:
        check_bits(self.bits)

    @cached_property
    def magnitudes(self) -> tuple[int, ...]:
        """The magnitudes of the levels, ascending from 0."""
        if self.bits not in TERMS:
            return tuple(range(2 ** (self.bits - 1)))
        return tuple(sorted(sum(chosen) for chosen in product(*((0, *term) for term in TERMS[self.bits]))))

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The grid of steps over ``[minimum, maximum]``, its ends the largest level; zero point 0."""
        low, high = widened(minimum, maximum)
        largest = self.magnitudes[-1]
        scale = usable(torch.maximum(-low, high) / largest)
        return QParams(
            scale=scale,
            zero_point=torch.zeros_like(scale, dtype=torch.int32),
            quant_min=-largest,
            quant_max=largest,
            ch_axis=ch_axis,
        )

    def nearest(self, v: Tensor) -> Tensor:
        """The nearest level to each of `v`, reals in steps; whole numbers in v's type and shape."""
        return self._levels.to(v)[torch.bucketize(v, self._midpoints.to(v))]

    def levels(self, weight: Tensor, qparams: QParams, name: str) -> Tensor:
        """The layer's weight as the nearest of its levels; int8, the weight's shape."""
        scale, _ = qparams.broadcast(weight.ndim)
        return self.nearest(weight / scale).to(qparams.dtype)

    @cached_property
    def _levels(self) -> Tensor:
        return torch.tensor([*(-m for m in reversed(self.magnitudes[1:])), *self.magnitudes]).float()

    @cached_property
    def _midpoints(self) -> Tensor:
        return midpoints(self._levels)
