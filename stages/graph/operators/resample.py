"""Separable weighted sums: averages over windows of several sizes, bilinear and bicubic images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, LevelSteps, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import Numbers, lowered, ratios
from stages.graph.requantize import float_type, requantizer
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling
from stages.integer.sums import sum_bound


def _resample(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return params["rows"] @ x @ params["columns"].T


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """Weights as multiples of ``1 / steps``, and ``s_x / (s_y · steps of rows · steps of columns)``."""
    tensors: dict[str, Numbers] = {}
    divisor = 1
    for name, steps in zip(("rows", "columns"), node.attrs["steps"], strict=True):
        weights = quantized.graph.params[node.params[name]].double().numpy()
        tensors[name] = on_grid(weights, steps)
        divisor *= steps
    tensors |= rescaling(ratios(node, values, divisor=divisor))
    return lowered(node, values, tensors, without=("steps",))


def on_grid(weights: Numbers, steps: int) -> Numbers:
    """Rows of weights as multiples of ``1 / steps``, int32, each within one of its weight.

    A row keeps its sum, rounded, so that constant images stay constant: of the weights that are farthest from
    what they would be rounded to, as many as need be are rounded the other way.
    """
    exact = weights * steps
    levels: Numbers = np.rint(exact)
    missing = np.rint(exact.sum(axis=1)) - levels.sum(axis=1)
    for row, count in enumerate(missing.astype(int)):
        error = (exact[row] - levels[row]) * np.sign(count)
        levels[row, np.argsort(-error, kind="stable")[: abs(count)]] += np.sign(count)
    return levels.astype(np.int32)


def _levels(op: Op, program: Program) -> LevelSteps:
    requantize, dtype = requantizer(op, program), float_type(sum_bound(op, program))
    rows, columns = (torch.from_numpy(op.tensors[name]).to(dtype) for name in ("rows", "columns"))

    def terms(c: Tensor) -> Tensor:
        return requantize.rescale(rows.to(c.device) @ (c.to(dtype) @ columns.T.to(c.device)))

    return LevelSteps(terms=terms, finish=requantize.finish)


OPERATORS = (
    Operator(
        name="resample",
        kind="computes",
        attributes="steps: weights of rows and of columns are rounded to multiples of 1 / steps; "
        "params rows (H', H) and columns (W', W)",
        value=_resample,
        lower=_lower,
        homogeneous=True,
        levels={"resample": _levels},
    ),
)
