"""Codebooks that learn: trained weight sharing (Han et al. 2016, arXiv 1510.00149, section 3.3).

A layer's weights are ``w = s · round(C[i])``, C the k centroids in steps of the scale s, one of which is 0
and stays, and i the nearest of them to each weight. A centroid's gradient is the sum of its weights' (eq. 3),

    ``∂L/∂C_k = Σ_{i = k} s · ∂L/∂w``,

divided by the square root of their number, so that centroids of many weights and of few move alike. Rounding
puts centroids on int8 levels, which the integer kernels run; its gradient is passed through, as that of
choosing the nearest is to the weights, which go on learning and so may come to another centroid.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from stages.quant.estimators.base import Start
from stages.quant.kmeans import midpoints
from stages.quant.qparams import QParams


class SharedWeights(nn.Module):
    """Fake quantization of a layer's weight by a codebook that learns.

    Args:
        start: the grid that centroids lie on: zero points are 0.
        centroids: where they start, float (k,), in steps, 0 among them.
    """

    scale: Tensor
    unit: Tensor
    zero: Tensor

    def __init__(self, start: Start, centroids: Tensor) -> None:
        super().__init__()
        self._qparams = start.qparams
        # of the weights' order of magnitude, so that one learning rate suits both
        unit = start.qparams.scale.mean()
        self.centroids = nn.Parameter((centroids * unit).float())
        self.register_buffer("scale", start.qparams.scale.clone())
        self.register_buffer("unit", unit.clone())
        self.register_buffer("zero", centroids == 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 in and out, any shape."""
        scale = self._broadcast(x.ndim)
        return self.levels(x / scale) * scale

    def levels(self, v: Tensor, given: Tensor | None = None) -> Tensor:
        """The levels of the codebook nearest to `v`, reals in steps; `given` is not used."""
        ordered, order = self._steps().detach().sort()
        nearest = order[torch.bucketize(v.detach(), midpoints(ordered))]
        counts = torch.bincount(nearest.flatten(), minlength=len(order)).clamp_min(1)
        slow = counts.to(v.dtype).rsqrt()
        steps = self._steps()
        # as many weights move a centroid as are its own
        own = steps.detach() + (steps - steps.detach()) * slow
        inside = (v.detach().abs() <= float(self._qparams.quant_max)).to(v.dtype)
        return own[nearest] + (v - v.detach()) * inside

    def observe(self, x: Tensor, step: Tensor | None = None) -> None:
        """Nothing: the grid stays as calibrated."""

    def initialize(self, x: Tensor) -> None:
        """Nothing: k-means is the start."""

    def penalty(self) -> Tensor | None:
        """Return None: nothing is added to the loss."""
        return None

    def qparams(self) -> QParams:
        """The grid of the centroids."""
        return replace(self._qparams, scale=self.scale.clone(), zero_point=self._zero_point())

    def _steps(self) -> Tensor:
        """The centroids as levels, float32 (k,)."""
        real = torch.where(self.zero, torch.zeros_like(self.centroids), self.centroids) / self.unit
        whole = real.detach().round().clamp(self._qparams.quant_min, self._qparams.quant_max)
        return whole + (real - real.detach())

    def _broadcast(self, ndim: int) -> Tensor:
        return replace(self._qparams, scale=self.scale).broadcast(ndim)[0]

    def _zero_point(self) -> Tensor:
        return self._qparams.zero_point.to(self.scale.device).clone()
