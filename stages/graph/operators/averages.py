"""Averages, sums of levels whose ratio holds the division by the count, and sums without it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import lowered, ratios
from stages.graph.requantize import float_type, requantizer
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling
from stages.integer.sums import sum_bound


def _avg_pool2d(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, attrs["kernel"], attrs["stride"], attrs["padding"])


def _lower_avg_pool2d(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return lowered(node, values, rescaling(ratios(node, values, divisor=math.prod(node.attrs["kernel"]))))


def _avg_pool2d_levels(op: Op, program: Program) -> LevelSteps:
    requantize, dtype = requantizer(op, program), float_type(sum_bound(op, program))
    a = op.attrs

    def terms(c: Tensor) -> Tensor:
        sums = F.avg_pool2d(c.to(dtype), a["kernel"], a["stride"], a["padding"], divisor_override=1)
        return requantize.rescale(sums)

    return LevelSteps(terms=terms, finish=requantize.finish)


def _mean(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x.mean([axis + 1 for axis in attrs["axes"]], keepdim=attrs["keepdim"])


def _lower_mean(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    shape = values[node.inputs[0]].shape
    count = math.prod(shape[axis] for axis in node.attrs["axes"])
    return lowered(node, values, rescaling(ratios(node, values, divisor=count)))


def _sum(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x.sum([axis + 1 for axis in attrs["axes"]], keepdim=attrs["keepdim"])


def _lower_sum(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return lowered(node, values, rescaling(ratios(node, values)), op="mean")


def _mean_levels(op: Op, program: Program) -> LevelSteps:
    requantize, dtype = requantizer(op, program), float_type(sum_bound(op, program))
    axes = [axis + 1 for axis in op.attrs["axes"]]

    def terms(c: Tensor) -> Tensor:
        sums = c.to(dtype).sum(axes, keepdim=op.attrs["keepdim"])
        return requantize.rescale(sums)

    return LevelSteps(terms=terms, finish=requantize.finish)


OPERATORS = (
    Operator(
        name="avg_pool2d",
        kind="computes",
        attributes="kernel, stride, padding (zeros counted)",
        value=_avg_pool2d,
        lower=_lower_avg_pool2d,
        homogeneous=True,
        levels={"avg_pool2d": _avg_pool2d_levels},
    ),
    Operator(
        name="mean",
        kind="computes",
        attributes="axes (ascending), keepdim",
        value=_mean,
        lower=_lower_mean,
        levels={"mean": _mean_levels},
    ),
    Operator(
        name="sum",
        kind="computes",
        attributes="axes (ascending), keepdim; in the program a mean whose ratio holds no division",
        value=_sum,
        lower=_lower_sum,
        levels={"mean": _mean_levels},
    ),
)
