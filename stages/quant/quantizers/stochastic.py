"""Stochastic quantization: values between two levels go to either, to each as often as they are near it.

``q = clamp(round(x / Δ + ε) + zero_point)``, ``ε ~ U(−½, ½)``: unbiased within the range, with twice the
variance that rounding to nearest has on average. Real zero stays exact, as |ε| ≤ ½.

Noise is drawn where networks learn, in each step of quantization-aware training, and once for the weights,
when they become integers; simulation and program hold that one draw. Activations of a finished network
round to nearest: integer kernels are deterministic. (Krishnamoorthi 2018, section 2.3, where ε is added
before dividing; unbiasedness needs it in steps.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from torch import Tensor

from stages.quant.noise import dithered, uniform_noise
from stages.quant.qparams import QParams, quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import Quantizer
from stages.quant.quantizers.symmetric import Symmetric


@dataclass(frozen=True, kw_only=True)
class Stochastic:
    """The grid of another scheme, with rounding by chance.

    Args:
        bits: 2..8.
        signed: as the scheme has it: null, by the data, is `Symmetric`'s alone.
        scheme: ``symmetric`` or ``affine``.
        seed: decides all noise, together with the name of what is rounded.
    """

    elementwise: ClassVar[bool] = True

    bits: int = 8
    signed: bool | None = None
    scheme: Literal["symmetric", "affine"] = "symmetric"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scheme == "affine" and self.signed is None:
            raise ValueError("signed=None: must be true or false where scheme=affine")
        _ = self._grid  # refuses what the scheme refuses

    @cached_property
    def _grid(self) -> Quantizer:
        if self.scheme == "affine":
            return Affine(bits=self.bits, signed=bool(self.signed))
        return Symmetric(bits=self.bits, signed=self.signed)

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The scheme's grid over ``[minimum, maximum]``."""
        return self._grid.qparams(minimum, maximum, ch_axis)

    def levels(self, weight: Tensor, qparams: QParams, name: str) -> Tensor:
        """The layer's weight, rounded by the draw that is its own; int8, the weight's shape."""
        scale, _ = qparams.broadcast(weight.ndim)
        return quantize(self.dither(weight, scale, name, 0), qparams)

    def dither(self, x: Tensor, scale: Tensor, name: str, draw: int) -> Tensor:
        """``x + ε·Δ``, ε the draw of that number for that name."""
        return dithered(x, scale, uniform_noise(x, self.seed, name, draw))
