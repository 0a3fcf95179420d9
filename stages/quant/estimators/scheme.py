"""The quantizer as training sees it: other ranges and scales for a tensor whose levels are already chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stages.quant.estimators.base import Start, representable
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import Quantizer

PROBE = 1.3
"""A factor that takes a power of two, or any other preferred scale, to one that is none."""


def start_of(qparams: QParams, quantizer: Quantizer, *, relu: bool = False) -> Start:
    """Where training begins for a tensor with the calibrated grid `qparams`, which `quantizer` laid.

    A learned scale is free where the quantizer lays the same grid over what the grid can represent, and
    snaps to the scale that the quantizer chooses for that range otherwise (a power of two).

    Raises:
        ValueError: when ranges are observed, where the quantizer gives other levels than the calibrated.
    """
    by_data = quantizer.signed is None  # the calibrated range decided, for good
    component: Any = quantizer  # a dataclass, as all components are
    own: Quantizer = replace(component, signed=qparams.quant_min < 0) if by_data else quantizer
    one_sided = by_data and qparams.quant_min == 0

    def scheme(minimum: Tensor, maximum: Tensor) -> QParams:
        low = minimum.clamp(min=0.0) if one_sided else minimum
        found = own.qparams(low, maximum.clamp(min=0.0), qparams.ch_axis)
        if (found.quant_min, found.quant_max) != (qparams.quant_min, qparams.quant_max):
            raise ValueError(
                f"the levels {qparams.quant_min}..{qparams.quant_max} became {found.quant_min}.."
                f"{found.quant_max} in training. Remedy: train with the quantizer that calibrated"
            )
        return found

    def snap(scale: Tensor) -> Tensor:
        return scheme(*representable(replace(qparams, scale=scale))).scale

    probe = PROBE * qparams.scale
    free = torch.allclose(snap(probe), probe, rtol=1e-5, atol=0.0)
    return Start(qparams=qparams, scheme=scheme, relu=relu, snap=None if free else snap)
