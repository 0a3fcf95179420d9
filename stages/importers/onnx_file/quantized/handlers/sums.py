"""Sums, products and joins of values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from stages.graph.ratios import headroom, span
from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.handlers.functions import combined
from stages.importers.onnx_file.quantized.operands import (
    as_value,
    real_of,
)
from stages.importers.onnx_file.quantized.states import (
    BuiltOp,
    Index,
    KnownValues,
    Pending,
    Real,
    State,
    StoredLevels,
    Weight,
)
from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array
from stages.integer.program import Value
from stages.integer.ratios import rescaling


def _add(own: Quantized, node: OnnxNode) -> State:
    a, b = own.state(node, 0), own.state(node, 1)
    if isinstance(a, Weight | np.ndarray) or (isinstance(b, Pending) and not isinstance(a, Pending)):
        a, b = b, a
    if isinstance(a, Index) and isinstance(b, np.ndarray):
        return replace(a, first=b)
    if isinstance(a, Pending) and a.layer is not None and not a.bounded and len(a.inputs) == 1:
        if isinstance(b, Weight | np.ndarray) and a.layer[1] is None and _is_bias(b, a):
            return replace(a, layer=(a.layer[0], b))
        if isinstance(b, Real) and b.factor == 1.0 and b.value.shape == a.shape:
            return replace(a, inputs=(*a.inputs, b.value))
    return _sum("add", own, node)


def _is_bias(b: Weight | Array, layer: Pending) -> bool:
    """Whether a constant is one number an output channel."""
    shape = b.levels.shape if isinstance(b, Weight) else b.shape
    channels, after = (layer.shape[-1], 0) if layer.op.endswith("linear") else (layer.shape[0], 2)
    return math.prod(shape) == channels and (len(shape) > after and shape[-1 - after] == channels)


def _sum(op: str, own: Quantized, node: OnnxNode) -> State:
    """A sum of values, or what computes alike, each with a ratio of its own."""
    operands = [own.state(node, i) for i in range(len(node.inputs))]
    if (function := combined(own, node, operands)) is not None:
        return function
    values = tuple(as_value(own, node, state, i) for i, state in enumerate(operands))
    shape = np.broadcast_shapes(*(x.shape for x in values))

    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        inputs = [known[x.name] for x in pending.inputs]
        ratio = np.array([x.scale / y.scale for x in inputs])
        if op not in ("add", "subtract"):
            return {}, rescaling(ratio)
        bits = headroom(y.name, float((ratio * [span(x) for x in inputs]).sum()))
        return {"headroom": bits}, rescaling(ratio, bits)

    return Pending(op, values, tuple(shape), build, source=str(node))


def _multiply(own: Quantized, node: OnnxNode) -> State:
    a, b = own.state(node, 0), own.state(node, 1)
    if isinstance(a, np.ndarray | Weight):
        a, b = b, a
    number = _number(b)
    if number is not None and number > 0:
        if isinstance(a, Real):
            return replace(a, factor=a.factor * number)
        if isinstance(a, Pending) and a.op in ("mean", "avg_pool2d", "multiply", "matmul") and not a.bounded:
            return replace(a, factor=a.factor * number)
    if (function := combined(own, node, [own.state(node, i) for i in range(2)])) is not None:
        return function
    return product("multiply", own, node, np.broadcast_shapes)


def _number(state: State) -> float | None:
    if isinstance(state, Weight | np.ndarray):
        real = real_of(state)
        return float(real.reshape(-1)[0]) if real.size == 1 else None
    return None


def product(op: str, own: Quantized, node: OnnxNode, shape_of: Callable[..., tuple[int, ...]]) -> Pending:
    """A product of two values, whose ratio holds their factors."""
    states = [own.state(node, i) for i in range(2)]
    factor = math.prod(s.factor for s in states if isinstance(s, Real))
    plain = [replace(s, factor=1.0) if isinstance(s, Real) else s for s in states]
    a, b = (as_value(own, node, state, i) for i, state in enumerate(plain))

    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        first, second = (known[x.name].scale for x in pending.inputs)
        return {}, rescaling(np.asarray(first * second * pending.factor / y.scale))

    return Pending(op, (a, b), tuple(shape_of(a.shape, b.shape)), build, factor=factor, source=str(node))


def _concat(own: Quantized, node: OnnxNode) -> State:
    states = [own.state(node, i) for i in range(len(node.inputs))]
    values = (
        [as_value(own, node, state, i) for i, state in enumerate(states)]
        if not all(isinstance(s, StoredLevels) for s in states)
        else [s.value for s in states if isinstance(s, StoredLevels)]
    )
    axis = reading.axis_of(node.attrs.get("axis", 0), len(values[0].shape) + 1) - 1
    if axis < 0:
        raise ValueError("joins the samples of a batch")
    shape = list(values[0].shape)
    shape[axis] = sum(x.shape[axis] for x in values)

    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        return {}, rescaling(np.array([known[x.name].scale / y.scale for x in pending.inputs]))

    pending = Pending("concat", tuple(values), tuple(shape), build, {"axis": axis}, source=str(node))
    if not isinstance(states[0], StoredLevels):
        return pending
    value = own.draft(node.outputs[0], shape, values[0].dtype, values[0].own)
    return StoredLevels(own.emit(pending, value))


HANDLERS: Mapping[str, Handler] = {
    "Add": _add,
    "Sub": lambda own, node: _sum("subtract", own, node),
    "Max": lambda own, node: _sum("maximum", own, node),
    "Min": lambda own, node: _sum("minimum", own, node),
    "Mul": _multiply,
    "Concat": _concat,
}
