"""The network's input, and constants: values that no other value decides."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stages.graph.functions import clamp
from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.integer.program import Op, Value
from stages.quant.qparams import quantize


def _input(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x


def _constant(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    value = params["value"]
    return value.expand(len(x), *value.shape)


def _lower_constant(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    value = clamp(quantized.graph.params[node.params["value"]], node.clamp_min, node.clamp_max)
    levels = quantize(value, quantized.qparams(node.name)).numpy()
    return Op(op="constant", inputs=node.inputs, output=node.name, tensors={"levels": levels})


OPERATORS = (
    Operator(name="input", kind="input", attributes="the network's input", value=_input),
    Operator(
        name="constant",
        kind="computes",
        attributes="param value, one sample; the input, which it reads, says how many",
        value=_constant,
        lower=_lower_constant,
    ),
)
