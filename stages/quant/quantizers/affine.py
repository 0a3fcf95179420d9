"""Affine quantization: a grid that spans exactly the range, with zero wherever it falls.

``scale = (max − min) / (quant_max − quant_min)``, ``zero_point = clamp(round(quant_min − min/scale))``,
``real = scale · (q − zero_point)``. As the zero point is rounded, the grid's ends differ from min and max
by at most half a step, and values there round with an error of at most half a step as everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.quant.qparams import QParams
from stages.quant.quantizers.base import check_bits, usable, widened


@dataclass(frozen=True, kw_only=True)
class Affine:
    """All ``2^bits`` levels over ``[min, max]``.

    ======  ==========================  ===============
    signed  levels                      8 bits
    ======  ==========================  ===============
    false   0 .. 2^b − 1                0 .. 255
    true    −2^(b−1) .. 2^(b−1) − 1     −128 .. 127
    ======  ==========================  ===============

    Jacob et al. 2018 (arXiv 1712.05877), section 2.1; Krishnamoorthi 2018, section 2.1.

    Args:
        bits: 2..8; up to 16 for a residual stream.
        signed: levels in int8 (weights) or uint8 (activations). Both hold the same grid of real values.
    """

    bits: int = 8
    signed: bool = False

    def __post_init__(self) -> None:
        check_bits(self.bits, most=16)

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The grid over ``[minimum, maximum]``, of shape ``()`` or ``(C,)``, widened to contain 0."""
        low, high = widened(minimum, maximum)
        levels = 2**self.bits
        quant_min = -levels // 2 if self.signed else 0
        quant_max = quant_min + levels - 1
        scale = usable((high - low) / (levels - 1))
        zero_point = torch.round(quant_min - low / scale.double()).clamp(quant_min, quant_max)
        return QParams(
            scale=scale,
            zero_point=zero_point.to(torch.int32),
            quant_min=quant_min,
            quant_max=quant_max,
            ch_axis=ch_axis,
        )
