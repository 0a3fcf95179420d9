"""Sums and joins of values: each term is rescaled by a ratio of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import headroom, lowered, ratios, span
from stages.graph.requantize import requantizer
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling


def _add(attrs: Attributes, params: Parameters, a: Tensor, b: Tensor) -> Tensor:
    return a + b


def _lower_add(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    real = ratios(node, values)
    spans = np.array([span(values[name]) for name in node.inputs])
    bits = headroom(node.name, float((real * spans).sum()))
    return lowered(node, values, rescaling(real, bits), attrs={"headroom": bits})


def _add_levels(op: Op, program: Program) -> LevelSteps:
    inputs = [requantizer(op, program, index=i) for i in range(len(op.inputs))]

    def terms(*operands: Tensor) -> Tensor:
        total = inputs[0].rescale(operands[0])
        for own, operand in zip(inputs[1:], operands[1:], strict=True):
            term = own.rescale(operand)
            total = total.add_(term) if total.shape == term.shape else total + term
        return total

    return LevelSteps(terms=terms, finish=inputs[0].finish)


def _subtract(attrs: Attributes, params: Parameters, a: Tensor, b: Tensor) -> Tensor:
    return a - b


def _subtract_levels(op: Op, program: Program) -> LevelSteps:
    first, second = (requantizer(op, program, index=i) for i in range(2))
    return LevelSteps(terms=lambda a, b: first.rescale(a) - second.rescale(b), finish=first.finish)


def _concat(attrs: Attributes, params: Parameters, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=attrs["axis"] + 1)


def _lower_concat(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return lowered(node, values, rescaling(ratios(node, values)))


def _concat_levels(op: Op, program: Program) -> LevelSteps:
    inputs = [requantizer(op, program, index=i) for i in range(len(op.inputs))]
    axis = op.attrs["axis"] + 1

    def terms(*operands: Tensor) -> Tensor:
        return torch.cat([own.rescale(c) for own, c in zip(inputs, operands, strict=True)], dim=axis)

    return LevelSteps(terms=terms, finish=inputs[0].finish)


OPERATORS = (
    Operator(
        name="add",
        kind="computes",
        attributes="two inputs whose shapes broadcast",
        value=_add,
        lower=_lower_add,
        levels={"add": _add_levels},
        stream=True,
    ),
    Operator(
        name="subtract",
        kind="computes",
        attributes="two inputs whose shapes broadcast",
        value=_subtract,
        lower=_lower_add,
        levels={"subtract": _subtract_levels},
        stream=True,
    ),
    Operator(
        name="concat",
        kind="computes",
        attributes="axis; n inputs",
        value=_concat,
        lower=_lower_concat,
        levels={"concat": _concat_levels},
    ),
)
