"""Symmetric quantization: zero is level 0, and the grid is as wide on either side.

``scale = max(|min|, |max|) / quant_max``, ``zero_point = 0``, ``real = scale · q``. Nothing is subtracted
before multiplying, so kernels need no sums over inputs to correct for zero points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.quant.qparams import QParams
from stages.quant.quantizers.base import check_bits, usable, widened


@dataclass(frozen=True, kw_only=True)
class Symmetric:
    """The narrow range: one level fewer than the bits allow, so that −q is a level wherever q is.

    ======  ===================================  ==============
    signed  levels                               8 bits
    ======  ===================================  ==============
    true    −(2^(b−1) − 1) .. 2^(b−1) − 1        −127 .. 127
    false   0 .. 2^b − 2                         0 .. 254
    null    unsigned where min ≥ 0, else signed  by the data
    ======  ===================================  ==============

    SIMD kernels rely on the narrow range: without −128 two products of int8 fit the saturating int16 sum.

    Args:
        bits: 2..8; up to 16 for a residual stream.
        signed: true for weights. null suits activations: what comes out of a ReLU gets all levels on its
            one side, twice the resolution. false refuses data with negative values.
    """

    bits: int = 8
    signed: bool | None = None

    def __post_init__(self) -> None:
        check_bits(self.bits, most=16)

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The grid over ``[minimum, maximum]``, of shape ``()`` or ``(C,)``; channels share the levels."""
        low, high = widened(minimum, maximum)
        one_sided = bool((low >= 0).all())
        if self.signed is False and not one_sided:
            raise ValueError(
                f"signed=False, but values go down to {float(low.min()):.4g}, and unsigned levels hold none "
                "below zero. Remedy: signed=null (levels by the data), or the affine quantizer"
            )
        unsigned = one_sided if self.signed is None else not self.signed
        quant_max = 2**self.bits - 2 if unsigned else 2 ** (self.bits - 1) - 1
        scale = usable(torch.maximum(-low, high) / quant_max)
        return QParams(
            scale=scale,
            zero_point=torch.zeros_like(scale, dtype=torch.int32),
            quant_min=0 if unsigned else -quant_max,
            quant_max=quant_max,
            ch_axis=ch_axis,
        )
