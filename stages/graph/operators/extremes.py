"""The larger or the smaller of two values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters, PrepareLevels
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import lowered, ratios, rescaling
from stages.graph.requantize import requantizer
from stages.integer.program import Op, Program, Value


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


OPERATORS = (_of_two("maximum"), _of_two("minimum"))
