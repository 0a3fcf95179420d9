"""Products of two values, of elements or of matrices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import lowered
from stages.graph.requantize import float_type, requantizer
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling
from stages.integer.sums import sum_bound


def _multiply(attrs: Attributes, params: Parameters, a: Tensor, b: Tensor) -> Tensor:
    scale: float = attrs["scale"]
    return a * b * scale


def _matmul(attrs: Attributes, params: Parameters, a: Tensor, b: Tensor) -> Tensor:
    scale: float = attrs["scale"]
    return torch.matmul(a, b) * scale


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """``s_a s_b / s_y``."""
    a, b = (values[name].scale for name in node.inputs)
    ratio = np.asarray(a * b * node.attrs["scale"] / values[node.name].scale)
    return lowered(node, values, rescaling(ratio), without=("scale",))


def _multiply_levels(op: Op, program: Program) -> LevelSteps:
    requantize = requantizer(op, program)
    return LevelSteps(terms=lambda a, b: requantize.rescale(a * b), finish=requantize.finish)


def _matmul_levels(op: Op, program: Program) -> LevelSteps:
    requantize, dtype = requantizer(op, program), float_type(sum_bound(op, program))

    def terms(a: Tensor, b: Tensor) -> Tensor:
        return requantize.rescale(torch.matmul(a.to(dtype), b.to(dtype)))

    return LevelSteps(terms=terms, finish=requantize.finish)


OPERATORS = (
    Operator(
        name="multiply",
        kind="computes",
        attributes="scale, a factor > 0; two inputs whose shapes broadcast",
        value=_multiply,
        lower=_lower,
        levels={"multiply": _multiply_levels},
    ),
    Operator(
        name="matmul",
        kind="computes",
        attributes="scale, a factor > 0; two inputs (…, I, K) and (…, K, J), of as many dimensions",
        value=_matmul,
        lower=_lower,
        levels={"matmul": _matmul_levels},
    ),
)
