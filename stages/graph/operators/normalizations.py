"""Softmax and layer norm, in 64-bit integers whose constants hold the scales."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.affine import affine_integers
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import Numbers, lowered
from stages.integer.kernels import layer_norm, softmax
from stages.integer.program import Op, Value


def _softmax(attrs: Attributes, params: Parameters, x: Tensor, keep: Tensor | None = None) -> Tensor:
    axis = attrs["axis"] + 1
    if keep is None:
        return F.softmax(x, axis)
    kept = (keep != 0).expand_as(x)
    return F.softmax(x.masked_fill(~kept, float("-inf")), axis).masked_fill(
        ~kept.any(axis, keepdim=True), 0.0
    )


def _lower_softmax(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x, y = values[node.inputs[0]], values[node.name]
    inverse = np.rint(2.0**softmax.SCALE_BITS / y.scale)
    if inverse > softmax.MAX_INVERSE:
        raise ValueError(
            f"its scale {y.scale:.3g} is below 2^-21: all its values are near zero. "
            "Remedy: calibrate with samples on which it is not constant"
        )
    exponentials = np.exp(-x.scale * np.arange(256)) * 2.0**softmax.FRACTION_BITS
    tensors: dict[str, Numbers] = {
        "exponentials": np.rint(exponentials).astype(np.int32),
        "inverse_scale": np.array([inverse], np.int64),
    }
    return lowered(node, values, tensors)


def _layer_norm(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], params.get("gamma"), params.get("beta"), attrs["eps"])


def _lower_layer_norm(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x, y = values[node.inputs[0]], values[node.name]
    size = x.shape[-1]
    gamma, beta = (quantized.graph.param(node, role) for role in ("gamma", "beta"))
    ones, zeros = torch.ones(size), torch.zeros(size)
    by_level = (ones if gamma is None else gamma).double().numpy() * math.sqrt(size) / y.scale
    offset = (zeros if beta is None else beta).double().numpy() / y.scale
    narrow = layer_norm.narrowing(x)
    epsilon = np.rint(2.0 ** (layer_norm.SPREAD_BITS - 2 * narrow) * size**3 * node.attrs["eps"] / x.scale**2)
    tensors, attrs = affine_integers(by_level, offset, epsilon=epsilon, eps=node.attrs["eps"], x=x)
    return lowered(node, values, tensors, without=("eps",), attrs={**attrs, "narrow": narrow})


OPERATORS = (
    Operator(
        name="softmax",
        kind="computes",
        attributes="axis; perhaps a second input, what is kept",
        value=_softmax,
        lower=_lower_softmax,
    ),
    Operator(
        name="layer_norm",
        kind="computes",
        attributes="eps; over the last dimension; params gamma, beta, each (C,)",
        value=_layer_norm,
        lower=_lower_layer_norm,
        stream=True,
    ),
)
