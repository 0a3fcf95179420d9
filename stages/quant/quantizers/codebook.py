"""Codebook quantization: a layer's weights share ``2^bits`` values, put where its weights are.

``real = scale · c[i]``: the index i has ``bits`` bits, and the codebook c, fitted by k-means to the layer's
weights in steps of `scale`, holds int8 levels −127..127 with 0 among them. Hence the integer kernels compute
with codebooks as with any int8 weights; on disk, a layer is its indices, packed, and its codebook.

With a scale for each channel, all channels share one codebook, fitted to weights in steps of their own
channel's scale: channels count alike, whatever their ranges. (Han et al. 2016, arXiv 1510.00149.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from stages.quant.kmeans import kmeans, midpoints
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import check_bits
from stages.quant.quantizers.symmetric import Symmetric

TOLERANCE = 0.01
"""In steps: what moves less hardly ever changes the level that it is rounded to."""


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """Weights only: values between layers keep an even grid.

    Args:
        bits: 2..8, of an index.
    """

    elementwise: ClassVar[bool] = False
    signed: ClassVar[bool] = True

    bits: int = 4

    def __post_init__(self) -> None:
        check_bits(self.bits)

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The grid that centroids lie on: `Symmetric`'s of 8 bits over ``[minimum, maximum]``."""
        return Symmetric(bits=8, signed=True).qparams(minimum, maximum, ch_axis)

    def centroids(self, weight: Tensor, qparams: QParams) -> Tensor:
        """Those of a layer's weight in steps of its grid, float64 (2^bits,), ascending, one of them 0.

        Weights that are 0, as pruned ones are, have that one, and draw no other.
        """
        scale, _ = qparams.broadcast(weight.ndim)
        steps = (weight / scale).clamp(qparams.quant_min, qparams.quant_max)
        others = steps[weight != 0]
        return kmeans(others if others.numel() else steps, 2**self.bits, TOLERANCE)

    def levels(self, weight: Tensor, qparams: QParams, name: str) -> Tensor:
        """The layer's weight as the nearest levels of its codebook; int8, the weight's shape."""
        scale, _ = qparams.broadcast(weight.ndim)
        steps = (weight / scale).clamp(qparams.quant_min, qparams.quant_max)
        codebook: Tensor = torch.unique(self.centroids(weight, qparams).round())
        nearest = torch.bucketize(steps, midpoints(codebook).float())
        return codebook[nearest].to(qparams.dtype)
