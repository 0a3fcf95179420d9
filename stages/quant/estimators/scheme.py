"""The quantizer as training sees it: new ranges for a tensor whose levels are already chosen."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

from torch import Tensor

from stages.quant.estimators.base import Scheme
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import Quantizer


def scheme_like(qparams: QParams, quantizer: Quantizer) -> Scheme:
    """A map from ranges to grids of the levels and `ch_axis` of `qparams`.

    Args:
        qparams: as calibrated; a layer may have bits of its own.
        quantizer: of weights or of activations.

    Raises:
        ValueError: when called, where the quantizer gives other levels after all.
    """
    own = _with_levels(quantizer, qparams)
    one_sided = quantizer.signed is not True and qparams.quant_min == 0 and not bool(qparams.zero_point.any())

    def scheme(minimum: Tensor, maximum: Tensor) -> QParams:
        low = minimum.clamp(min=0.0) if one_sided else minimum
        found = own.qparams(low, maximum.clamp(min=0.0), qparams.ch_axis)
        if (found.quant_min, found.quant_max) != (qparams.quant_min, qparams.quant_max):
            raise ValueError(
                f"the levels {qparams.quant_min}..{qparams.quant_max} became {found.quant_min}.."
                f"{found.quant_max} in training. Remedy: train with the quantizer that calibrated"
            )
        return found

    return scheme


def _with_levels(quantizer: Quantizer, qparams: QParams) -> Quantizer:
    """The quantizer, a dataclass as all components are, with the bits and the sign that `qparams` has."""
    component: Any = quantizer
    own = {"bits": (qparams.quant_max - qparams.quant_min).bit_length(), "signed": qparams.quant_min < 0}
    names = {field.name for field in fields(component) if field.init}
    return cast(Quantizer, replace(component, **{name: own[name] for name in own if name in names}))
