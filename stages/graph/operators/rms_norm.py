"""Division by the root of the mean square (Zhang and Sennrich 2019, arXiv 1910.07467), or by the norm."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.affine import exponent
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import Numbers, lowered
from stages.integer.kernels import layer_norm, rms_norm
from stages.integer.program import Op, Value


def _along(values: Tensor, attrs: Attributes, rank: int) -> Tensor:
    """(C,) in a shape that broadcasts against (N, …) along the axis."""
    return values.reshape(-1, *[1] * (rank - 2 - attrs["axis"]))


def _rms_norm(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    y = x * torch.rsqrt(x.square().mean(attrs["axis"] + 1, keepdim=True) + attrs["eps"])
    return y * _along(params["gamma"], attrs, x.ndim) if "gamma" in params else y


def _normalize(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    y = F.normalize(x, dim=attrs["axis"] + 1, eps=attrs["eps"])
    return y * _along(params["gamma"], attrs, x.ndim) if "gamma" in params else y


def _lower_rms_norm(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x = values[node.inputs[0]]
    size = x.shape[node.attrs["axis"]]
    epsilon = float(np.rint(2.0**rms_norm.SPREAD_BITS * size * node.attrs["eps"] / x.scale**2))
    return _lowered(quantized, node, values, math.sqrt(size), epsilon=epsilon, floor=1.0)


def _lower_normalize(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x = values[node.inputs[0]]
    floor = float(np.rint(2.0**rms_norm.SPREAD_BITS * (node.attrs["eps"] / x.scale) ** 2))
    return _lowered(quantized, node, values, 1.0, epsilon=0.0, floor=max(floor, 1.0))


def _lowered(
    quantized: QuantizedGraph,
    node: Node,
    values: Mapping[str, Value],
    gain: float,
    *,
    epsilon: float,
    floor: float,
) -> Op:
    x, y = values[node.inputs[0]], values[node.name]
    gamma = quantized.graph.param(node, "gamma")
    own = torch.ones(x.shape[node.attrs["axis"]]) if gamma is None else gamma
    by_level = own.double().numpy() * gain / y.scale
    shift = min(layer_norm.GAMMA_BITS - 1 + layer_norm.UNIT_BITS - exponent(by_level), 62)
    if shift < 1 or max(epsilon, floor) >= rms_norm.MAX_EPSILON:
        raise ValueError(
            f"weights of {np.abs(by_level).max():.3g} steps of its output, or eps={node.attrs['eps']} beside "
            f"an input's scale {x.scale:.3g}, leave 64-bit arithmetic. Remedy: calibrate with samples on "
            "which its values are not near zero"
        )
    tensors: dict[str, Numbers] = {
        "gamma": np.rint(by_level * 2.0 ** (shift - layer_norm.UNIT_BITS)).astype(np.int32)
    }
    attrs = {"epsilon": int(epsilon), "floor": int(floor), "shift": shift}
    return lowered(node, values, tensors, op="rms_norm", without=("eps",), attrs=attrs)


OPERATORS = (
    Operator(
        name="rms_norm",
        kind="computes",
        attributes="axis, eps; ``x / √(mean(x²) + eps)``; param gamma, (C,) along the axis, or none",
        value=_rms_norm,
        lower=_lower_rms_norm,
    ),
    Operator(
        name="normalize",
        kind="computes",
        attributes="axis, eps; ``x / max(√Σx², eps)``; param gamma, (C,) along the axis, or none",
        value=_normalize,
        lower=_lower_normalize,
    ),
)
