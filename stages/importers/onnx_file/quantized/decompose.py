"""QOperator nodes as the QDQ nodes that they stand for.

https://onnx.ai/onnx/operators (QLinearConv, QLinearMatMul) and onnxruntime's
docs/ContribOperators.md (domain com.microsoft).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stages.importers.onnx_file.reading import OnnxNode

UNARY: Mapping[str, str] = {
    "com.microsoft.QLinearSigmoid": "Sigmoid",
    "com.microsoft.QLinearLeakyRelu": "LeakyRelu",
    "com.microsoft.QLinearSoftmax": "Softmax",
    "com.microsoft.QLinearGlobalAveragePool": "GlobalAveragePool",
    "com.microsoft.QLinearAveragePool": "AveragePool",
    "com.microsoft.QLinearReduceMean": "ReduceMean",
}
"""Operators of ``(x, its scale and zero point, the result's scale and zero point)``."""

BINARY: Mapping[str, str] = {
    "com.microsoft.QLinearAdd": "Add",
    "com.microsoft.QLinearMul": "Mul",
    "QLinearMatMul": "MatMul",
    "com.microsoft.QLinearMatMul": "MatMul",
}
"""Operators of two such operands."""

BIAS = "BiasOfLayer"
"""A node of ours: a bias (levels int32) of an input's and a weight's scale."""


def decomposed(nodes: tuple[OnnxNode, ...], opset: int) -> Iterator[OnnxNode]:
    """The nodes, in order, of which none is a QOperator any more."""
    for node in nodes:
        op = node.op
        if op in ("com.microsoft.QuantizeLinear", "com.microsoft.DequantizeLinear"):
            yield _node(op.rpartition(".")[2], node, node.inputs, node.outputs[0], **node.attrs)
        elif op in UNARY:
            yield from _unary(node, UNARY[op])
        elif op in BINARY:
            yield from _layer(node, BINARY[op], 3, bias=None, weight_axis=-1)
        elif op == "QLinearConv":
            yield from _layer(node, "Conv", 3, bias=8, weight_axis=0)
        elif op == "com.microsoft.QGemm":
            yield from _layer(node, "Gemm", 3, bias=6, weight_axis=0 if node.attrs.get("transB") else 1)
        elif op == "com.microsoft.QLinearConcat":
            yield from _concat(node)
        else:
            yield node


def _node(op: str, of: OnnxNode, inputs: tuple[str, ...], output: str, **attrs: Any) -> OnnxNode:
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return OnnxNode(op=op, name=of.name, inputs=inputs, outputs=(output,), attrs=attrs)


def _need(node: OnnxNode, count: int) -> None:
    if len(node.inputs) < count:
        raise ValueError(f"{node}: has {len(node.inputs)} operands: must be {count}; the file is damaged")


def _unary(node: OnnxNode, op: str) -> Iterator[OnnxNode]:
    _need(node, 4)
    if node.attrs.get("channels_last"):
        raise ValueError(f"{node}: has channels last. Remedy: quantize the network as (N, C, H, W)")
    x, scale, zero, y_scale, y_zero = (*node.inputs, "")[:5]
    y, attrs = node.outputs[0], {k: v for k, v in node.attrs.items() if k not in ("channels_last", "opset")}
    yield _node("DequantizeLinear", node, (x, scale, zero), f"{y}#x")
    yield _node(op, node, (f"{y}#x",), f"{y}#y", **attrs)
    yield _node("QuantizeLinear", node, (f"{y}#y", y_scale, y_zero), y)


def _layer(node: OnnxNode, op: str, second: int, *, bias: int | None, weight_axis: int) -> Iterator[OnnxNode]:
    """Operands 0..2 and 3..5, then QGemm's bias, the result's scale and zero point, QLinearConv's bias."""
    _need(node, 8 if bias != 6 else 6)
    given, y = node.inputs, node.outputs[0]
    a, b = given[:3], given[second : second + 3]
    yield _node("DequantizeLinear", node, a, f"{y}#a")
    yield _node("DequantizeLinear", node, b, f"{y}#b", axis=weight_axis)
    operands: tuple[str, ...] = (f"{y}#a", f"{y}#b")
    scales = given[6:8]
    if bias is not None and len(given) > bias and given[bias]:
        yield _node(BIAS, node, (given[bias], a[1], b[1]), f"{y}#bias")
        operands = (*operands, f"{y}#bias")
    if bias == 6:
        scales = given[7:9]
    yield _node(op, node, operands, f"{y}#y", **node.attrs)
    if scales and scales[0]:
        yield _node("QuantizeLinear", node, (f"{y}#y", *scales), y)
    else:
        yield _node("Identity", node, (f"{y}#y",), y)  # QGemm without an output scale gives reals


def _concat(node: OnnxNode) -> Iterator[OnnxNode]:
    _need(node, 5)
    y, parts = node.outputs[0], []
    for i in range(2, len(node.inputs), 3):
        parts.append(f"{y}#{i}")
        yield _node("DequantizeLinear", node, node.inputs[i : i + 3], parts[-1])
    yield _node("Concat", node, tuple(parts), f"{y}#y", **node.attrs)
    yield _node("QuantizeLinear", node, (f"{y}#y", *node.inputs[:2]), y)
