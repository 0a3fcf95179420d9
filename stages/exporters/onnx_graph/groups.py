"""Layers with a scale a group of input channels, as layers that ONNX has.

The program's rows ``g·O .. g·O + O − 1`` of a weight (G·O, I/G, …) read group g; ONNX's weight is (O, I, …).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.bounds import centred_weight
from stages.integer.program import Op, Program


def ungrouped(op: Op, program: Program) -> Op:
    """The layer over the reals that its integers stand for: float weight and bias, no scale."""
    scale = op.tensors["weight_scale"].astype(np.float64)
    rows = centred_weight(op)
    real = rows * scale.reshape(-1, *[1] * (rows.ndim - 1))
    tensors = {"weight": _side_by_side(op, real).astype(np.float32), "bias": _bias(op, program)}
    return replace(op, attrs={**op.attrs, "groups": 1}, tensors=tensors)


def blocked(op: Op, program: Program) -> Op:
    """The layer with its integers, (O, I, …), and scales and zero points (O, G); its bias is float.

    DequantizeLinear takes such blocks since opset 21.
    """
    channels, groups = len(op.tensors["bias"]), op.attrs["groups"]
    rows = (groups * channels,)
    parts = {
        name: np.broadcast_to(op.tensors[name], rows).reshape(groups, channels).T
        for name in ("weight_scale", "weight_zero_point")
    }
    tensors = {"weight": _side_by_side(op, op.tensors["weight"]), "bias": _bias(op, program), **parts}
    return replace(op, attrs={**op.attrs, "groups": 1}, tensors=tensors)


def _side_by_side(op: Op, rows: NDArray[Any]) -> NDArray[Any]:
    """(G·O, I/G, …) to (O, I, …)."""
    channels, groups = len(op.tensors["bias"]), op.attrs["groups"]
    apart = rows.reshape(groups, channels, *rows.shape[1:]).swapaxes(0, 1)
    return apart.reshape(channels, -1, *rows.shape[2:])


def _bias(op: Op, program: Program) -> NDArray[np.float32]:
    """The bias that the first group takes, in reals."""
    bias = op.tensors["bias"]
    scale = np.broadcast_to(op.tensors["weight_scale"].astype(np.float64), (op.attrs["groups"] * len(bias),))
    real: NDArray[np.float32] = (bias * scale[: len(bias)] * program.values[op.inputs[0]].scale).astype(
        np.float32
    )
    return real
