"""Lowering: a quantized graph to an `stages.integer.program.Program`, node by node.

All that is computed here is ratios of scales, as the program's table defines them: ``s_x s_w / s_y`` for a
layer, ``s_i / s_y`` for each input of a sum or join, ``s_x / (s_y · count)`` for an average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.graph.ir import Node
from stages.graph.lower_computed import COMPUTED, Lowering
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import bounds, headroom, ratios, rescaling, span
from stages.integer.program import Op, Program, Requantize, Value

Array = NDArray[Any]


def lower(quantized: QuantizedGraph, requantize: Requantize) -> Program:
    """The integer program of a quantized network.

    Raises:
        PipelineError: a ratio of scales that no multiplier expresses, or a sum whose terms do not fit
            32 bits, naming the layer and the bound.
    """
    values = {node.name: _value(quantized, node) for node in quantized.graph.nodes}
    ops = tuple(_lowered(quantized, node, values) for node in quantized.graph.nodes if node.op != "input")
    return Program(
        values=values,
        ops=ops,
        input=quantized.graph.input.name,
        output=quantized.graph.output,
        requantize=requantize,
    )


def _lowered(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    try:
        return _LOWERINGS[node.op](quantized, node, values)
    except PipelineError:
        raise
    except ValueError as error:
        raise PipelineError(f"'{node.name}': {error}") from error


def _value(quantized: QuantizedGraph, node: Node) -> Value:
    qparams = quantized.qparams(node.name)
    return Value(
        name=node.name,
        shape=node.shape,
        scale=float(qparams.scale),
        zero_point=int(qparams.zero_point),
        quant_min=qparams.quant_min,
        quant_max=qparams.quant_max,
    )


def _layer(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    if node.name not in quantized.weights:
        return _float_layer(quantized, node, values)
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
    tensors: dict[str, Array] = {
        "weight": weight,
        "weight_scale": weight_scale,
        "weight_zero_point": weight_zero_point,
        "bias": integer_bias,
    }
    attrs: dict[str, Any] = {k: v for k, v in node.attrs.items() if not k.startswith("clamp")}
    attrs |= bounds(node, y)
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
    tensors |= rescaling(ratio, bits)
    if groups > 1:
        attrs["groups"] = groups
    op = node.op if groups == 1 else f"group_{node.op}"
    return Op(op=op, inputs=node.inputs, output=node.name, attrs=attrs, tensors=tensors)


def _group_rows(node: Node, weight: Array, groups: int) -> Array:
    """(O, I, …) as (G·O, I/G, …): the rows of the first group of input channels, then the second's."""
    if groups == 1:
        return weight
    if node.attrs.get("groups", 1) > 1:
        raise PipelineError(
            f"'{node.name}': a grouped convolution whose weights have scales of groups has no kernel. "
            "Remedy: granularity=per_channel"
        )
    channels, inputs, *window = weight.shape
    grouped = weight.reshape(channels, groups, inputs // groups, *window).swapaxes(0, 1)
    return np.ascontiguousarray(grouped.reshape(channels * groups, inputs // groups, *window))


def _float_layer(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    weight, bias = quantized.layer_params(node)
    attrs = {k: v for k, v in node.attrs.items() if not k.startswith("clamp")}
    return Op(
        op=f"float_{node.op}",
        inputs=node.inputs,
        output=node.name,
        attrs={**attrs, **bounds(node, values[node.name])},
        tensors={
            "weight": weight.numpy(),
            "bias": np.zeros(len(weight), np.float32) if bias is None else bias.numpy(),
        },
    )


def _add(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    real = ratios(node, values)
    spans = np.array([span(values[name]) for name in node.inputs])
    bits = headroom(node.name, float((real * spans).sum()))
    attrs = {**bounds(node, values[node.name]), "headroom": bits}
    return Op(op="add", inputs=node.inputs, output=node.name, attrs=attrs, tensors=rescaling(real, bits))


def _rescaled(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """concat, avg_pool2d and a clamp of its own: each input rescaled once."""
    kernel = node.attrs.get("kernel", (1, 1))
    attrs = {k: v for k, v in node.attrs.items() if not k.startswith("clamp")}
    return Op(
        op="requantize" if node.op == "clamp" else node.op,
        inputs=node.inputs,
        output=node.name,
        attrs={**attrs, **bounds(node, values[node.name])},
        tensors=rescaling(ratios(node, values, divisor=math.prod(kernel))),
    )


_LOWERINGS: Mapping[str, Lowering] = {
    "conv2d": _layer,
    "linear": _layer,
    "add": _add,
    "concat": _rescaled,
    "avg_pool2d": _rescaled,
    "clamp": _rescaled,
    **COMPUTED,
}


def to_levels(value: torch.Tensor, quantized: QuantizedGraph, name: str) -> Array:
    """A simulated value as the integers it stands for, to be compared with the program's (same dtype)."""
    qparams = quantized.qparams(name)
    q = torch.round(value / qparams.scale).add_(qparams.zero_point)
    array: Array = q.to(qparams.dtype).numpy()
    return array
