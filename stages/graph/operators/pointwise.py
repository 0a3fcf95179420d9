"""Functions of one value, element by element: a clamp of its own, and tables of 256 levels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stages.graph.functions import apply, clamp, nearest_finite
from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import level_reals, lowered, ratios
from stages.graph.requantize import requantizer
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling
from stages.quant.qparams import quantize


def _clamp(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x  # the bounds are applied to every node alike


def _lower_clamp(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return lowered(node, values, rescaling(ratios(node, values)), op="requantize")


def _requantize_levels(op: Op, program: Program) -> LevelSteps:
    requantize = requantizer(op, program)
    return LevelSteps(terms=requantize.rescale, finish=requantize.finish)


def _table(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return apply(attrs["steps"], x)


def _lower_table(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """What the float function gives for each level; where that is not finite, for the nearest where it is."""
    x = values[node.inputs[0]]
    reals = nearest_finite(_table(node.attrs, {}, level_reals(x, quantized.qparams(x.name))))
    real = clamp(reals, node.clamp_min, node.clamp_max)
    table = quantize(real, quantized.qparams(node.name)).numpy()
    return Op(op="table", inputs=node.inputs, output=node.name, tensors={"table": table})


OPERATORS = (
    Operator(
        name="clamp",
        kind="computes",
        attributes="a clamp between values of different scales (ReLU: clamp_min is 0.0)",
        value=_clamp,
        lower=_lower_clamp,
        levels={"requantize": _requantize_levels},
        stream=True,
    ),
    Operator(
        name="table",
        kind="computes",
        attributes="steps: element-wise functions, one after the other (`stages.graph.functions`)",
        value=_table,
        lower=_lower_table,
    ),
)
