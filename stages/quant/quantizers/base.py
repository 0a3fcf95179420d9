"""The protocol of a quantizer, and what all of them check and round alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from stages.quant.qparams import QParams

MIN_SCALE = 2.0**-60
"""Below this a scale is not used: products of two scales, and their reciprocals, stay normal float32."""


@runtime_checkable
class Quantizer(Protocol):
    """A scheme: maps a range of real values to a grid of integer levels."""

    integer_kernel: ClassVar[bool]
    """Whether the integer program has kernels for the scheme; False for one that is only simulated."""

    @property
    def bits(self) -> int:
        """The grid has at most ``2^bits`` levels."""

    @property
    def signed(self) -> bool | None:
        """True for levels in int8, False for uint8, None where the range decides."""

    def qparams(self, minimum: Tensor, maximum: Tensor, ch_axis: int | None = None) -> QParams:
        """The grid for values in ``[minimum, maximum]``, float tensors of shape ``()`` or ``(C,)``.

        The range is first widened to contain 0, so that real zero is a level.

        Raises:
            ValueError: NaN or infinity in the range, or a minimum above its maximum.
        """


@dataclass(frozen=True, kw_only=True)
class WeightsAndActivations:
    """The schemes of a network: what the configuration group ``quantizer`` chooses.

    Args:
        weight: for weights; signed, as integer kernels hold weights in int8.
        activation: for the input and every computed value.
    """

    weight: Quantizer
    activation: Quantizer

    def __post_init__(self) -> None:
        if self.weight.signed is not True:
            raise ValueError(
                f"weight.signed={self.weight.signed}: must be true, integer kernels hold weights in int8; "
                "an unsigned grid is for activations"
            )


def check_bits(bits: int) -> None:
    """Refuse a width that has no kernel or no grid."""
    if not 2 <= bits <= 8:
        raise ValueError(
            f"bits={bits}: must be 2..8. Integer kernels hold levels in 8 bits, and 1 bit leaves no level "
            "beside zero"
        )


def widened(minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Tensor]:
    """The range, checked and widened to contain 0, in float64: its width cannot overflow there."""
    if not bool(torch.isfinite(minimum).all() & torch.isfinite(maximum).all()):
        raise ValueError(
            f"the range [{_extreme(minimum, 'min')}, {_extreme(maximum, 'max')}] is not finite. Remedy: find "
            "what makes NaN or infinity: weights that diverged in training, or samples not normalized"
        )
    if bool((minimum > maximum).any()):
        raise ValueError(
            f"the range is empty: minimum {_extreme(minimum, 'max')} lies above maximum "
            f"{_extreme(maximum, 'min')}. Remedy: a calibrator returns (min, max), in this order"
        )
    return minimum.double().clamp(max=0.0), maximum.double().clamp(min=0.0)


def usable(scale: Tensor) -> Tensor:
    """Scales as float32; 1 where the range is so narrow (zero, mostly) that all values round to zero."""
    return torch.where(scale < MIN_SCALE, 1.0, scale).to(torch.float32)


def _extreme(x: Tensor, which: str) -> float:
    return float(x.min() if which == "min" else x.max())
