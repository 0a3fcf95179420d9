"""Ratios of scales in the three forms that an operator holds: multiplier and shift, and float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Value


def rescaling(ratio: ArrayLike, headroom: int = 0, prefix: str = "") -> dict[str, NDArray[Any]]:
    """A ratio of scales as fixed-point multiplier and shift, and as float32; each (n,)."""
    numbers = np.atleast_1d(np.asarray(ratio, np.float64))
    multiplier, shift = quantize_multiplier(numbers * 2.0**headroom)
    tensors = {"multiplier": multiplier, "shift": shift, "ratio": numbers.astype(np.float32)}
    return {prefix + name: tensor for name, tensor in tensors.items()}


def layer_rescaling(
    x: Value, weight_scale: NDArray[np.float32], y: Value, headroom: int = 0
) -> dict[str, NDArray[Any]]:
    """A layer's ratio, ``s_x · s_w / s_y``, (1,) or (O,).

    In float32 it is formed there, ``(s_x · s_w) / s_y``, as onnxruntime's and XNNPACK's kernels form it: the
    last bit decides near ties. Source: measured, `python -m pipeline.probe`.
    """
    tensors = rescaling(x.scale * weight_scale.astype(np.float64) / y.scale, headroom)
    return tensors | {"ratio": np.float32(x.scale) * weight_scale / np.float32(y.scale)}
