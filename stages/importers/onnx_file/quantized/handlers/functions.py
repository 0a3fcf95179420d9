"""Functions of one value, element by element, and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from stages.importers.onnx_file.functions import FUNCTIONS
from stages.importers.onnx_file.functions.reading import Batch
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.operands import (
    real_of,
    requantized,
    value_of,
)
from stages.importers.onnx_file.quantized.states import (
    Pending,
    Real,
    State,
    ValueFunction,
    Weight,
)
from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array

FUNCTIONS_OF_ONE = (
    *("LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Selu", "Celu", "Softplus", "Mish"),
    *("Softsign", "Gelu", "Erf", "Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Pow", "Floor", "Ceil"),
    *("Round", "Sin", "Cos", "Sign", "Swish", "ThresholdedRelu", "PRelu", "Div", "com.microsoft.QuickGelu"),
    "com.microsoft.Gelu",
)
"""Operators that are a table of their operand's levels, where all others are constants."""


def bounded(own: Quantized, state: State, low: float | None, high: float | None, node: OnnxNode) -> State:
    """A result that waits, between bounds; a value in its steps to be; else a function."""
    if isinstance(state, Real):
        state = requantized(state, str(node))
    if isinstance(state, Pending):
        lows = [b for b in (state.low, low) if b is not None]
        highs = [b for b in (state.high, high) if b is not None]
        return replace(state, low=max(lows, default=None), high=min(highs, default=None))
    return _function(own, node)


def _relu(own: Quantized, node: OnnxNode) -> State:
    return bounded(own, own.state(node, 0), 0.0, None, node)


def _function(own: Quantized, node: OnnxNode) -> State:
    operands = [own.state(node, i) if node.inputs[i] else None for i in range(len(node.inputs))]
    function = combined(own, node, operands)
    if function is None:
        waiting = next((x.source for x in operands if isinstance(x, Pending)), "")
        why = (
            f"reads the result of {waiting}, which is not quantized"
            if waiting
            else "is no function of one value"
        )
        raise ValueError(f"{why}. Remedy: quantize its operands, or import the float network")
    return function


def combined(own: Quantized, node: OnnxNode, operands: list[Any]) -> ValueFunction | None:
    """The node as a function of one value, where its operands are functions of that one, and constants."""
    values = [x.value for x in operands if isinstance(x, Real | ValueFunction)]
    plain = all(x is None or isinstance(x, Real | ValueFunction | np.ndarray | Weight) for x in operands)
    if not values or not plain or any(x is not values[0] for x in values):
        return None
    constants = [real_of(x) for x in operands if isinstance(x, Weight | np.ndarray)]
    rank = len(values[0].shape)
    if any(x.size > 1 and (x.ndim > rank + 1 or sum(n > 1 for n in x.shape) > 1) for x in constants):
        return None
    module = SimpleNamespace(
        attr=lambda name, default=None: node.attrs.get(name, default),
        opset=own.graph.opset,
        batch=Batch(None),
        training=False,
        node=node,
        constant=lambda place: False,
    )
    function = FUNCTIONS[node.op]

    def apply(x: Array) -> Array:
        given: list[Any] = []
        for operand in operands:
            if isinstance(operand, ValueFunction):
                given.append(torch.from_numpy(np.ascontiguousarray(operand.apply(x), np.float32)))
            elif isinstance(operand, Real):
                given.append(torch.from_numpy(x * np.float32(operand.factor)))
            elif operand is not None:
                real = real_of(operand)
                given.append(real if node.op == "Clip" else torch.from_numpy(np.array(real)))
            else:
                given.append(None)
        result: Array = function(module, *given).numpy()
        return result

    return ValueFunction(values[0], apply)


def _batch_norm(own: Quantized, node: OnnxNode) -> ValueFunction:
    """A factor and an offset a channel."""
    x = value_of(own.state(node, 0))
    weight, bias, mean, variance = (own.array(node, i, "its parameters") for i in range(1, 5))
    if weight is None or bias is None or mean is None or variance is None:
        raise ValueError("has no parameters")
    shape = (-1, *[1] * (len(x.shape) - 1))
    factor = (weight / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))).reshape(shape)
    offset = bias.reshape(shape) - factor * mean.reshape(shape)
    return ValueFunction(x, lambda real: (real * factor + offset).astype(np.float32))


HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(FUNCTIONS_OF_ONE, _function),
    "Relu": _relu,
    "BatchNormalization": _batch_norm,
}
