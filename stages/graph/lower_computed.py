"""Lowering of operators without weights: moves, tables, products of values, softmax, layer norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch

from pipeline.errors import PipelineError
from stages.graph.execute import activate, compute
from stages.graph.ir import Node
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import Array, bounds, ratios, rescaling
from stages.integer.kernels import layer_norm, softmax
from stages.integer.program import Op, Value
from stages.quant.qparams import dequantize, quantize

Lowering = Callable[[QuantizedGraph, Node, Mapping[str, Value]], Op]


def _moved(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return Op(op=node.op, inputs=node.inputs, output=node.name, attrs=dict(node.attrs))


def _table(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """What the simulation computes for each level, by the simulation's own functions."""
    x = values[node.inputs[0]]
    first = -128 if x.quant_min < 0 else 0
    levels = torch.arange(first, first + 256).clamp(x.quant_min, x.quant_max)
    reals = compute(quantized.graph, node, dequantize(levels, quantized.qparams(x.name)))
    table = quantize(reals, quantized.qparams(node.name)).numpy()
    return Op(op="table", inputs=node.inputs, output=node.name, tensors={"table": table})


def _constant(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    value = activate(node, quantized.graph.params[node.params["value"]])
    levels = quantize(value, quantized.qparams(node.name)).numpy()
    return Op(op="constant", inputs=node.inputs, output=node.name, tensors={"levels": levels})


def _mean(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    axes, shape = node.attrs["axes"], values[node.inputs[0]].shape
    ratio = ratios(node, values, divisor=math.prod(shape[axis] for axis in axes))
    attrs = {"axes": axes, "keepdim": node.attrs["keepdim"]}
    return _computed(node, values, attrs, rescaling(ratio))


def _product(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """multiply and matmul: ``s_a s_b / s_y``."""
    a, b = (values[name].scale for name in node.inputs)
    ratio = np.asarray(a * b * node.attrs.get("scale", 1.0) / values[node.name].scale)
    return _computed(node, values, {}, rescaling(ratio))


def _softmax(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x, y = values[node.inputs[0]], values[node.name]
    inverse = np.rint(2.0**softmax.SCALE_BITS / y.scale)
    if inverse > softmax.MAX_INVERSE:
        raise PipelineError(
            f"'{node.name}': its scale {y.scale:.3g} is below 2^-21: all its values are near zero. "
            "Remedy: calibrate with samples on which it is not constant"
        )
    exponentials = np.exp(-x.scale * np.arange(256)) * 2.0**softmax.FRACTION_BITS
    tensors: dict[str, Array] = {
        "exponentials": np.rint(exponentials).astype(np.int32),
        "inverse_scale": np.array([inverse], np.int64),
    }
    return _computed(node, values, {"axis": node.attrs["axis"]}, tensors)


def _layer_norm(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x, y = values[node.inputs[0]], values[node.name]
    size = x.shape[-1]
    gamma, beta = (quantized.graph.param(node, role) for role in ("gamma", "beta"))
    ones, zeros = torch.ones(size), torch.zeros(size)
    by_level = (ones if gamma is None else gamma).double().numpy() * math.sqrt(size) / y.scale
    offset = (zeros if beta is None else beta).double().numpy() / y.scale
    gamma_bits = layer_norm.GAMMA_BITS - 1 + layer_norm.UNIT_BITS - _exponent(by_level)
    shift = min(gamma_bits, layer_norm.BETA_BITS - 1 - _exponent(offset), 62)
    epsilon = np.rint(2.0**layer_norm.SPREAD_BITS * size**3 * node.attrs["eps"] / x.scale**2)
    if shift < layer_norm.UNIT_BITS // 2 or epsilon >= 2.0**61:
        raise PipelineError(
            f"'{node.name}': weights of {np.abs(by_level).max():.3g} steps of its output, or eps="
            f"{node.attrs['eps']} beside an input's scale {x.scale:.3g}, leave 64-bit arithmetic. Remedy: "
            "calibrate with samples on which its values are not constant"
        )
    tensors: dict[str, Array] = {
        "gamma": np.rint(by_level * 2.0 ** (shift - layer_norm.UNIT_BITS)).astype(np.int32),
        "beta": np.rint(offset * 2.0**shift).astype(np.int64),
    }
    return _computed(node, values, {"epsilon": int(epsilon), "shift": shift}, tensors)


def _exponent(x: Array) -> int:
    """The least e with ``|x| < 2^e``."""
    return int(np.frexp(np.abs(x).max())[1])


def _computed(
    node: Node, values: Mapping[str, Value], attrs: Mapping[str, object], tensors: Mapping[str, Array]
) -> Op:
    return Op(
        op=node.op,
        inputs=node.inputs,
        output=node.name,
        attrs={**attrs, **bounds(node, values[node.name])},
        tensors=tensors,
    )


COMPUTED: Mapping[str, Lowering] = {
    "table": _table,
    "constant": _constant,
    "multiply": _product,
    "mean": _mean,
    "matmul": _product,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    **dict.fromkeys(
        ("max_pool2d", "reshape", "pad", "slice", "permute", "upsample_nearest", "insert_zeros"), _moved
    ),
}
"""Graph operator → its lowering."""
