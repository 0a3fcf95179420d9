"""Group normalization (Wu and He 2018, arXiv 1803.08494); instance normalization has a group a channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import Numbers, lowered
from stages.integer.kernels import group_norm, layer_norm
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
    gamma_bits = layer_norm.GAMMA_BITS - 1 + layer_norm.UNIT_BITS - _exponent(by_level)
    shift = min(gamma_bits, layer_norm.BETA_BITS - 1 - _exponent(offset), 62)
    epsilon = np.rint(2.0 ** group_norm.spread_bits(size) * size**2 * node.attrs["eps"] / x.scale**2)
    if shift < layer_norm.UNIT_BITS // 2 or epsilon >= 2.0**61:
        raise ValueError(
            f"weights of {np.abs(by_level).max():.3g} steps of its output, or eps={node.attrs['eps']} beside "
            f"an input's scale {x.scale:.3g}, leave 64-bit arithmetic. Remedy: calibrate with samples on "
            "which its values are not constant"
        )
    tensors: dict[str, Numbers] = {
        "gamma": np.rint(by_level * 2.0 ** (shift - layer_norm.UNIT_BITS)).astype(np.int32),
        "beta": np.rint(offset * 2.0**shift).astype(np.int64),
    }
    return lowered(node, values, tensors, without=("eps",), attrs={"epsilon": int(epsilon), "shift": shift})


def _exponent(x: Numbers) -> int:
    """The least e with ``|x| < 2^e``."""
    return int(np.frexp(np.abs(x).max())[1])


OPERATORS = (
    Operator(
        name="group_norm",
        kind="computes",
        attributes="groups, of channels, eps; params gamma and beta, (C,) each, or none",
        value=_value,
        lower=_lower,
    ),
)
