"""Power-of-two quantization: symmetric, with scales that multiply by shifting.

``scale = 2^k``, ``k = ⌈log2(max(|min|, |max|) / quant_max)⌉``, ``zero_point = 0``, ``real = 2^k · q``. The
exponent is rounded up, so that the grid covers the range as `Symmetric`'s does, with steps less than twice
as wide. The ratio of scales by which a layer requantizes, ``2^(kx + kw − ky)``, is a power of two as well:
its fixed-point multiplier is 2^30, one half, and the rest is a shift. (An average pool still divides by its
count, a shift where that is a power of two.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from stages.quant.qparams import QParams
from stages.quant.quantizers.base import check_bits, next_power_of_two
from stages.quant.quantizers.symmetric import Symmetric


@dataclass(frozen=True, kw_only=True)
class PowerOfTwo:
    """`Symmetric`'s levels, a power of two apart.

    Jain et al. 2020 (arXiv 1903.08066) train such thresholds; here they follow from the range.

    Args:
        bits: 2..8.
        signed: true for weights; null: by the data; false refuses negative values.
    """

    bits: int = 8
    signed: bool | None = None

    def __post_init__(self) -> None:
        check_bits(self.bits)

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The grid over ``[minimum, maximum]``, of shape ``()`` or ``(C,)``; channels share the levels."""
        grid = Symmetric(bits=self.bits, signed=self.signed).qparams(minimum, maximum, ch_axis)
        return replace(grid, scale=next_power_of_two(grid.scale))
