"""The larger or the smaller of two values, and the largest or smallest along dimensions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters, PrepareLevels
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import lowered, ratios
from stages.graph.requantize import requantizer
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return lowered(node, values, rescaling(ratios(node, values)))


def _of_two(name: str) -> Operator:
    choose = getattr(torch, name)

    def value(attrs: Attributes, params: Parameters, a: Tensor, b: Tensor) -> Tensor:
        chosen: Tensor = choose(a, b)
        return chosen

    def levels(op: Op, program: Program) -> LevelSteps:
        first, second = (requantizer(op, program, index=i) for i in range(2))
        return LevelSteps(terms=lambda a, b: choose(first.rescale(a), second.rescale(b)), finish=first.finish)

    prepare: PrepareLevels = levels
    return Operator(
        name=name,
        kind="computes",
        attributes="two inputs whose shapes broadcast",
        value=value,
        lower=_lower,
        levels={name: prepare},
    )


def _lower_along(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return Op(op=node.op, inputs=node.inputs, output=node.name, attrs=dict(node.attrs))


def _along(name: str) -> Operator:
    reduce = getattr(torch, name)

    def value(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
        chosen: Tensor = reduce(x, [axis + 1 for axis in attrs["axes"]], keepdim=attrs["keepdim"])
        return chosen

    return Operator(
        name=name, kind="moves", attributes="axes (ascending), keepdim", value=value, lower=_lower_along
    )


OPERATORS = (_of_two("maximum"), _of_two("minimum"), _along("amax"), _along("amin"))
