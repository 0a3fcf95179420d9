"""Group normalization (Wu and He 2018, arXiv 1803.08494); instance normalization has a group a channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.affine import affine_integers
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import lowered
from stages.integer.kernels import group_norm
from stages.integer.program import Op, Value


def _value(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return F.group_norm(x, attrs["groups"], params.get("gamma"), params.get("beta"), attrs["eps"])


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x, y = values[node.inputs[0]], values[node.name]
    size = group_norm.size_of(x.shape, node.attrs["groups"])
    gamma, beta = (quantized.graph.param(node, role) for role in ("gamma", "beta"))
    ones, zeros = torch.ones(x.shape[0]), torch.zeros(x.shape[0])
    by_level = (
        (ones if gamma is None else gamma).double().numpy() * 2.0 ** group_norm.unit_bits(size) / y.scale
    )
    offset = (zeros if beta is None else beta).double().numpy() / y.scale
    epsilon = np.rint(2.0 ** group_norm.spread_bits(size) * size**2 * node.attrs["eps"] / x.scale**2)
    tensors, attrs = affine_integers(by_level, offset, epsilon=epsilon, eps=node.attrs["eps"], x=x)
    return lowered(node, values, tensors, without=("eps",), attrs=attrs)


OPERATORS = (
    Operator(
        name="group_norm",
        kind="computes",
        attributes="groups, of channels, eps; params gamma and beta, (C,) each, or none",
        value=_value,
        lower=_lower,
    ),
)
