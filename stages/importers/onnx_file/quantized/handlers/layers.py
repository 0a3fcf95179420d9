"""Convolutions and products by a constant matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stages.graph.ratios import headroom, span
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.handlers.sums import product
from stages.importers.onnx_file.quantized.operands import (
    padded,
    real_of,
    value_of,
    window,
)
from stages.importers.onnx_file.quantized.states import (
    BuiltOp,
    KnownValues,
    Pending,
    ValueDraft,
    Weight,
)
from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array
from stages.integer.program import Value
from stages.integer.ratios import layer_rescaling, rescaling


def _convolution(own: Quantized, node: OnnxNode) -> Pending:
    x, weight = value_of(own.state(node, 0), "its input"), own.state(node, 1)
    if not isinstance(weight, Weight | np.ndarray):
        raise ValueError("its weight is computed. Remedy: a constant")
    levels = weight.levels if isinstance(weight, Weight) else weight
    if levels.ndim != 4 or len(x.shape) != 3:
        raise ValueError(f"a window of {levels.ndim - 2} dimensions: images are read, (N, C, H, W)")
    if isinstance(weight, Weight) and weight.scale.size > 1 and weight.axis != 0:
        raise ValueError(f"its weight has scales along axis {weight.axis}: must be 0")
    strides, dilations, before, after = window(node, x, levels.shape[2:])
    x, padding = padded(own, node, x, before, after)
    attrs = {
        "stride": tuple(strides),
        "padding": padding,
        "dilation": tuple(dilations),
        "groups": node.attrs.get("group", 1),
    }
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(x.shape[1:], padding, dilations, levels.shape[2:], strides, strict=True)
    ]
    kind = "conv2d" if isinstance(weight, Weight) else "float_conv2d"
    return _layer(own, node, kind, x, weight, (len(levels), *size), attrs)


def _layer(
    own: Quantized,
    node: OnnxNode,
    op: str,
    x: ValueDraft,
    weight: Weight | Array,
    shape: tuple[int, ...],
    attrs: Mapping[str, Any],
) -> Pending:
    bias: Any = own.state(node, 2) if len(node.inputs) > 2 and node.inputs[2] else None
    if not (bias is None or isinstance(bias, Weight | np.ndarray)):
        raise ValueError("its bias is computed. Remedy: a constant")
    return Pending(op, (x,), shape, _build_layer, attrs, layer=(weight, bias), source=str(node))


def _build_layer(pending: Pending, values: KnownValues, y: Value) -> BuiltOp:
    """Ratios ``s_x·s_w / s_y``, and the residual's, with the headroom of their sum, as lowering has them."""
    if pending.layer is None:
        raise ValueError("has no weight")
    weight, bias = pending.layer
    x, residuals = values[pending.inputs[0].name], [values[r.name] for r in pending.inputs[1:]]
    if not isinstance(weight, Weight):
        real = np.zeros(len(weight), np.float32) if bias is None else real_of(bias).reshape(-1)
        return {}, {"weight": weight.astype(np.float32), "bias": real.astype(np.float32)}
    step = x.scale * weight.scale.astype(np.float64)
    levels = _bias(bias, step, len(weight.levels))
    ratio = step / y.scale
    bits, attrs, tensors = 0, dict[str, Any](), dict[str, Array]()
    if residuals:
        centred = weight.levels.astype(np.int64).reshape(len(weight.levels), -1)
        centred -= weight.zero_point.astype(np.int64)[:, None]
        reach = np.abs(centred).sum(axis=1) * span(x) + np.abs(levels.astype(np.int64))
        bound = float((reach * ratio).max()) + sum(span(r) * r.scale / y.scale for r in residuals)
        attrs["headroom"] = bits = headroom(y.name, bound)
        for r in residuals:
            tensors |= rescaling(np.asarray(r.scale / y.scale), bits, prefix="residual_")
    return attrs, {
        "weight": np.ascontiguousarray(weight.levels),
        "weight_scale": weight.scale,
        "weight_zero_point": weight.zero_point,
        "bias": levels,
        **tensors,
        **layer_rescaling(x, weight.scale, y, bits),
    }


def _bias(bias: Weight | Array | None, step: Array, count: int) -> Array:
    """int32 at the scale of the sums; levels as they are where they have that scale."""
    if bias is None:
        return np.zeros(count, np.int32)
    exact = isinstance(bias, Weight) and bias.levels.dtype == np.int32 and not bias.zero_point.any()
    if isinstance(bias, Weight) and exact and np.allclose(bias.scale, step, rtol=1e-4, atol=0.0):
        return bias.levels.reshape(-1)
    rounded = np.rint(real_of(bias).astype(np.float64).reshape(-1) / step)
    if rounded.size != count or np.abs(rounded).max(initial=0) > 2**31 - 1:
        raise ValueError(f"{rounded.size} numbers of bias for {count} channels, or one that leaves int32")
    return rounded.astype(np.int32)


def _matmul(own: Quantized, node: OnnxNode) -> Pending:
    a, b = own.state(node, 0), own.state(node, 1)
    if isinstance(b, Weight | np.ndarray):
        x = value_of(a, "its input")
        levels = b.levels if isinstance(b, Weight) else b
        if levels.ndim != 2 or levels.shape[0] != x.shape[-1]:
            raise ValueError(f"a weight of {list(levels.shape)} for values of {list(x.shape)}")
        if isinstance(b, Weight) and b.scale.size > 1 and b.axis != 1:
            raise ValueError(f"its weight has scales along axis {b.axis}: must be 1, the output's")
        weight = replace(b, levels=levels.T, axis=0) if isinstance(b, Weight) else b.T
        kind = "linear" if isinstance(b, Weight) else "float_linear"
        return _layer(own, node, kind, x, weight, (*x.shape[:-1], levels.shape[1]), {})
    return product("matmul", own, node, _matmul_shape)


def _matmul_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if len(a) != len(b) or len(a) < 2 or a[-1] != b[-2]:
        raise ValueError(f"values of {list(a)} and {list(b)}")
    return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])


def _gemm(own: Quantized, node: OnnxNode) -> Pending:
    x, b = value_of(own.state(node, 0), "its input"), own.state(node, 1)
    if not isinstance(b, Weight | np.ndarray) or node.attrs.get("transA", 0):
        raise ValueError("its weight is computed, or its input transposed. Remedy: a constant weight")
    if node.attrs.get("alpha", 1.0) != 1.0 or (len(node.inputs) > 2 and node.attrs.get("beta", 1.0) != 1.0):
        raise ValueError("alpha and beta must be 1")
    turned = bool(node.attrs.get("transB", 0))
    levels = b.levels if isinstance(b, Weight) else b
    if isinstance(b, Weight) and b.scale.size > 1 and b.axis != (0 if turned else 1):
        raise ValueError(f"its weight has scales along axis {b.axis}, which is not the output's")
    weight: Weight | Array = (
        b if turned else (replace(b, levels=levels.T, axis=0) if isinstance(b, Weight) else b.T)
    )
    rows = levels.shape[0 if turned else 1]
    kind = "linear" if isinstance(b, Weight) else "float_linear"
    return _layer(own, node, kind, x, weight, (*x.shape[:-1], rows), {})


HANDLERS: Mapping[str, Handler] = {
    "Conv": _convolution,
    "MatMul": _matmul,
    "Gemm": _gemm,
}
