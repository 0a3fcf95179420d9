"""Tensors of an operator that its values' scales determine: they need not be stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.program import Op, Value
from stages.integer.ratios import layer_rescaling, rescaling


def derived_tensors(
    op: Op, values: Mapping[str, Value], tensors: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Ratios of scales as lowering forms them, by name; none for operators that form others.

    Args:
        op: the operator, of which inputs, output and headroom count.
        values: by name.
        tensors: of the operator, as far as they are known.
    """
    scale = tensors.get("weight_scale")
    if scale is None or scale.dtype != np.float32 or not np.all((scale > 0) & np.isfinite(scale)):
        return {}
    y, headroom = values[op.output], op.attrs.get("headroom", 0)
    try:
        with np.errstate(all="ignore"):  # scales of a damaged file
            found = layer_rescaling(values[op.inputs[0]], scale, y, headroom)
            for name in op.inputs[1:]:
                found |= rescaling(np.asarray(values[name].scale / y.scale), headroom, prefix="residual_")
    except (ValueError, OverflowError):  # ratios that no multiplier holds
        return {}
    return found


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays are equal to the bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
