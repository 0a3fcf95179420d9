"""Layers: convolutions and linear maps, exact on levels.

``Σ (qx−zx)(qw−zw) + bias`` is a sum of whole numbers, which float32 forms exactly, in whatever order, as
long as no partial sum can reach 2^24. Where the weights do not prove that, input channels are summed in
parts that they do prove it for, and the parts in float64.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import Numbers, headroom, lowered, span
from stages.graph.requantize import requantizer
from stages.integer.bounds import FLOAT32_EXACT
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import layer_rescaling, rescaling


def linear_map(attrs: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a layer computes without residual and clamp; a weight (O, I) is a linear layer's."""
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    a = attrs
    return F.conv2d(x, weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"])


def exact_sums(
    attrs: Attributes, c: Tensor, weight: Tensor, bias: Tensor | None, levels: tuple[int, int]
) -> Tensor:
    """``Σ c·w + bias``, exactly; differentiable.

    Args:
        attrs: of the layer.
        c: centred levels of the input, whole numbers in float32.
        weight: centred levels of the weight, likewise.
        bias: whole numbers below 2^31 in float64, (O,); or None.
        levels: the least and the greatest that `c` can be.

    Returns:
        float32 where no partial sum can reach 2^24, else float64.
    """
    products = _reach(weight, levels)
    if products >= FLOAT32_EXACT:
        sums = _in_parts(attrs, c, weight, levels, products)
        return sums if bias is None else sums + _channels(bias, weight)
    if bias is None or products + float(bias.detach().abs().max()) < FLOAT32_EXACT:
        return linear_map(attrs, c, weight, None if bias is None else bias.float())
    return linear_map(attrs, c, weight, None).double() + _channels(bias, weight)


def _reach(weight: Tensor, levels: tuple[int, int]) -> float:
    """The largest magnitude of any partial sum of products, or a little more."""
    low, high = levels
    rows = weight.detach().flatten(1)
    # 255 · 255 · terms needs no look at the weights
    if rows.shape[1] * 255 * max(-low, high) < FLOAT32_EXACT:
        return float(rows.shape[1] * 255 * max(-low, high))
    positive, negative = (rows.clamp(min=0).sum(dim=1).double(), rows.clamp(max=0).sum(dim=1).double())
    return float(torch.maximum(positive * high + negative * low, -positive * low - negative * high).max())


def _in_parts(attrs: Attributes, c: Tensor, weight: Tensor, levels: tuple[int, int], reach: float) -> Tensor:
    """Sums over input channels part by part, the parts in float64."""
    channels = weight.shape[1]
    linear = weight.ndim == 2
    if channels == 1 or (not linear and attrs["groups"] > 1):
        return linear_map(attrs, c.double(), weight.double(), None)
    count = min(channels, int(reach // FLOAT32_EXACT) + 1)
    while True:
        parts = [part.contiguous() for part in weight.tensor_split(count, dim=1)]
        if count == channels or max(_reach(part, levels) for part in parts) < FLOAT32_EXACT:
            break
        count = min(channels, 2 * count)
    pieces = c.tensor_split(count, dim=-1 if linear else 1)
    total = torch.zeros((), dtype=torch.float64, device=c.device)
    for piece, part in zip(pieces, parts, strict=True):
        exact = _reach(part, levels) < FLOAT32_EXACT
        own = piece if exact else piece.double()
        total = total + linear_map(attrs, own, part.to(own.dtype), None).double()
    return total


def _channels(values: Tensor, weight: Tensor) -> Tensor:
    """(O,) in a shape that broadcasts against the layer's value."""
    return values if weight.ndim == 2 else values.reshape(-1, *[1] * (weight.ndim - 2))


def _value(attrs: Attributes, params: Parameters, x: Tensor, residual: Tensor | None = None) -> Tensor:
    y = linear_map(attrs, x, params["weight"], params.get("bias"))
    if residual is None:
        return y
    in_place = not torch.is_grad_enabled() and residual.shape == y.shape and residual.dtype == y.dtype
    return y.add_(residual) if in_place else y + residual


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    if node.name not in quantized.weights:
        return _lower_float(quantized, node, values)
    x, y = values[node.inputs[0]], values[node.name]
    qparams = quantized.weights[node.name]
    weight = quantized.integer_weight(node).numpy()
    bias = quantized.integer_bias(node)
    integer_bias = np.zeros(weight.shape[0], np.int32) if bias is None else bias.numpy()
    groups = 1 if qparams.group_size is None else weight.shape[1] // qparams.group_size
    weight = _group_rows(node, weight, groups)
    weight_scale = np.atleast_1d(qparams.scale.numpy().T.reshape(-1)).astype(np.float32)
    weight_zero_point = np.atleast_1d(qparams.zero_point.numpy().T.reshape(-1)).astype(np.int32)
    ratio = x.scale * weight_scale.astype(np.float64) / y.scale
    tensors: dict[str, Numbers] = {
        "weight": weight,
        "weight_scale": weight_scale,
        "weight_zero_point": weight_zero_point,
        "bias": integer_bias,
    }
    attrs: dict[str, int] = {}
    bits = 0
    if groups > 1 or len(node.inputs) == 2:
        centred = weight.astype(np.int64).reshape(weight.shape[0], -1) - weight_zero_point[:, None]
        accumulator = np.abs(centred).sum(axis=1) * span(x)
        accumulator[: len(integer_bias)] += np.abs(integer_bias.astype(np.int64))
        bound = float((accumulator * ratio).reshape(groups, -1).sum(axis=0).max())
        residuals = [values[name] for name in node.inputs[1:]]
        bound += sum(span(r) * r.scale / y.scale for r in residuals)
        attrs["headroom"] = bits = headroom(node.name, bound)
        for r in residuals:
            tensors |= rescaling(np.asarray(r.scale / y.scale), bits, prefix="residual_")
    tensors |= layer_rescaling(x, weight_scale, y, bits)
    if groups > 1:
        attrs["groups"] = groups
    return lowered(node, values, tensors, op=node.op if groups == 1 else f"group_{node.op}", attrs=attrs)


def _group_rows(node: Node, weight: Numbers, groups: int) -> Numbers:
    """(O, I, …) as (G·O, I/G, …): the rows of the first group of input channels, then the second's."""
    if groups == 1:
        return weight
    if node.attrs.get("groups", 1) > 1:
        raise ValueError(
            "a grouped convolution whose weights have scales of groups has no kernel. "
            "Remedy: granularity=per_channel"
        )
    channels, inputs, *window = weight.shape
    grouped = weight.reshape(channels, groups, inputs // groups, *window).swapaxes(0, 1)
    return np.ascontiguousarray(grouped.reshape(channels * groups, inputs // groups, *window))


def _lower_float(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    weight, bias = quantized.layer_params(node)
    own = np.zeros(len(weight), np.float32) if bias is None else bias.numpy()
    return lowered(node, values, {"weight": weight.numpy(), "bias": own}, op=f"float_{node.op}")


def _levels(op: Op, program: Program) -> LevelSteps:
    x = program.values[op.inputs[0]]
    centred = op.tensors["weight"].astype(np.float32)
    centred -= op.tensors["weight_zero_point"].reshape(-1, *[1] * (centred.ndim - 1))
    weight = torch.from_numpy(centred)
    if weight.ndim == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    bias = torch.from_numpy(op.tensors["bias"].astype(np.float64)) if op.tensors["bias"].any() else None
    channel = weight.ndim - 2
    requantize = requantizer(op, program, channel=channel)
    added = requantizer(op, program, prefix="residual_") if len(op.inputs) == 2 else None
    levels = (x.quant_min - x.zero_point, x.quant_max - x.zero_point)

    def terms(c: Tensor, residual: Tensor | None = None) -> Tensor:
        total = requantize.rescale(exact_sums(op.attrs, c, weight, bias, levels))
        if added is not None and residual is not None:
            total += added.rescale(residual)
        return total

    return LevelSteps(terms=terms, finish=requantize.finish)


OPERATORS = (
    Operator(
        name="conv2d",
        kind="layer",
        attributes="stride, padding, dilation, groups; weight (O, I/groups, kH, kW), bias (O,)",
        value=_value,
        lower=_lower,
        levels={"conv2d": _levels},
        stream=True,
    ),
    Operator(
        name="linear",
        kind="layer",
        attributes="over the last dimension; weight (O, I), bias (O,)",
        value=_value,
        lower=_lower,
        levels={"linear": _levels},
        stream=True,
    ),
)
