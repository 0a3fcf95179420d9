"""Embeddings: a row of a table for each token of the network's input."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stages.graph.functions import clamp
from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.integer.program import Op, Value
from stages.quant.qparams import quantize


def _embedding(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return params["table"][x.long()]


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """The table in levels of the output."""
    x, rows = values[node.inputs[0]], len(quantized.graph.params[node.params["table"]])
    if (x.scale, x.zero_point, x.quant_min) != (1.0, 0, 0) or x.quant_max >= rows:
        raise ValueError(
            "reads what is no number of a token: only the network's input, and what moves it, can be embedded"
        )
    real = clamp(quantized.graph.params[node.params["table"]], node.clamp_min, node.clamp_max)
    levels = quantize(real, quantized.qparams(node.name)).numpy()
    return Op(op="embedding", inputs=node.inputs, output=node.name, tensors={"table": levels})


OPERATORS = (
    Operator(
        name="embedding",
        kind="computes",
        attributes="param table (tokens, D), of which the input, whole numbers, chooses rows",
        value=_embedding,
        lower=_lower,
    ),
)
