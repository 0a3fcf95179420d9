"""Averages and normalizations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stages.graph.operators.affine import affine_integers
from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.operands import (
    padded,
    reduced,
    value_of,
    window,
)
from stages.importers.onnx_file.quantized.states import (
    BuiltOp,
    KnownValues,
    Pending,
    Real,
    ValueDraft,
)
from stages.importers.onnx_file.reading import OnnxNode
from stages.integer.kernels import layer_norm, softmax
from stages.integer.program import Value
from stages.integer.ratios import rescaling


def _average_pool(own: Quantized, node: OnnxNode) -> Pending:
    x = value_of(own.state(node, 0))
    kernel = list(node.attrs.get("kernel_shape", ()))
    if len(kernel) != 2 or len(x.shape) != 3:
        raise ValueError(f"a window of {len(kernel)} dimensions: images are read, (N, C, H, W)")
    strides, dilations, before, after = window(node, x, kernel)
    if any(d != 1 for d in dilations) or node.attrs.get("ceil_mode", 0):
        raise ValueError("dilations and ceil_mode have no form in integers. Remedy: a pool without them")
    if any([*before, *after]) and not node.attrs.get("count_include_pad", 0):
        raise ValueError("averages without its padding. Remedy: count_include_pad=1, or no padding")
    x, padding = padded(own, node, x, before, after, fits=kernel)
    if padding == (0, 0) and (op := own.ops.get(x.name)) is not None and op.op == "pad":
        # files of our own write the padding before the pool
        pads = op.pending.attrs["pads"]
        even = pads[0] == (0, 0) and all(a == b for a, b in pads)
        if (
            even
            and own.reads[node.inputs[0]] == 1
            and all(2 * p[0] <= k for p, k in zip(pads[1:], kernel, strict=True))
        ):
            x, padding = op.inputs[0], (pads[1][0], pads[2][0])
    attrs = {"kernel": tuple(kernel), "stride": tuple(strides), "padding": padding}
    size = [
        (n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[1:], padding, kernel, strides, strict=True)
    ]
    return _average("avg_pool2d", node, x, (x.shape[0], *size), attrs, math.prod(kernel))


def _global_average(own: Quantized, node: OnnxNode) -> Pending:
    x = value_of(own.state(node, 0))
    if len(x.shape) != 3:
        raise ValueError(f"of {list(x.shape)}: images are read, (N, C, H, W)")
    attrs = {"kernel": x.shape[1:], "stride": x.shape[1:], "padding": (0, 0)}
    return _average("avg_pool2d", node, x, (x.shape[0], 1, 1), attrs, math.prod(x.shape[1:]))


def _average(
    op: str, node: OnnxNode, x: ValueDraft, shape: tuple[int, ...], attrs: Mapping[str, Any], divisor: int
) -> Pending:
    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        return {}, rescaling(np.asarray(known[x.name].scale * pending.factor / (y.scale * divisor)))

    return Pending(op, (x,), shape, build, attrs, source=str(node))


def _reduce(own: Quantized, node: OnnxNode) -> Pending:
    """ReduceMean, and ReduceSum, which is a mean whose ratio holds no division."""
    state = own.state(node, 0)
    factor = state.factor if isinstance(state, Real) else 1.0
    x = value_of(replace(state, factor=1.0) if isinstance(state, Real) else state)
    axes = reduced(own, node, x)
    keep = bool(node.attrs.get("keepdims", 1))
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes)
    divisor = math.prod(x.shape[axis] for axis in axes) if node.op == "ReduceMean" else 1
    return replace(_average("mean", node, x, shape, {"axes": axes, "keepdim": keep}, divisor), factor=factor)


def _softmax(own: Quantized, node: OnnxNode) -> Pending:
    x = value_of(own.state(node, 0))
    old = own.graph.opset < 13
    axis = reading.axis_of(node.attrs.get("axis", 1 if old else -1), len(x.shape) + 1) - 1
    if axis < 0 or (old and math.prod(x.shape[axis + 1 :]) != 1):
        raise ValueError("normalizes several dimensions together. Remedy: opset 13 or later")

    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        inverse = np.rint(2.0**softmax.SCALE_BITS / y.scale)
        if inverse > softmax.MAX_INVERSE:
            raise ValueError(f"its scale {y.scale:.3g} is below 2^-21")
        exponentials = np.exp(-known[x.name].scale * np.arange(256)) * 2.0**softmax.FRACTION_BITS
        return {}, {
            "exponentials": np.rint(exponentials).astype(np.int32),
            "inverse_scale": np.array([inverse], np.int64),
        }

    return Pending("softmax", (x,), x.shape, build, {"axis": axis}, source=str(node))


def _layer_norm(own: Quantized, node: OnnxNode) -> Pending:
    x = value_of(own.state(node, 0))
    size, eps = x.shape[-1], node.attrs.get("epsilon", 1e-5)
    if reading.axis_of(node.attrs.get("axis", -1), len(x.shape) + 1) != len(x.shape):
        raise ValueError("normalizes several dimensions. Remedy: axis=-1")
    gamma = own.array(node, 1, "its factors")
    beta = own.array(node, 2, "its offsets")

    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        value = known[x.name]
        factor = (np.ones(size) if gamma is None else gamma.astype(np.float64).reshape(-1)) / y.scale
        offset = (np.zeros(size) if beta is None else beta.astype(np.float64).reshape(-1)) / y.scale
        narrow = layer_norm.narrowing(value)
        epsilon = np.rint(2.0 ** (layer_norm.SPREAD_BITS - 2 * narrow) * size**3 * eps / value.scale**2)
        said = own.said.get("epsilons", {}).get(y.name, epsilon)  # which float32 does not hold
        epsilon = said if abs(said - epsilon) <= 1e-6 * epsilon else epsilon
        tensors, attrs = affine_integers(
            factor * math.sqrt(size), offset, epsilon=float(epsilon), eps=eps, x=value
        )
        return {**attrs, "narrow": narrow}, tensors

    return Pending("layer_norm", (x,), x.shape, build, source=str(node))


HANDLERS: Mapping[str, Handler] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
}
