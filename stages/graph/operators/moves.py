"""Operators that select or move values: levels stay as they are, and what pads is real zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, FloatFunction, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.integer.program import Op, Value


def _max_pool2d(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    a = attrs
    return F.max_pool2d(x, a["kernel"], a["stride"], a["padding"], a["dilation"], a["ceil_mode"])


def _permute(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x.permute(0, *(axis + 1 for axis in attrs["axes"]))


def _upsample_nearest(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    rows, columns = attrs["factor"]
    return x.repeat_interleave(rows, dim=2).repeat_interleave(columns, dim=3)


def _insert_zeros(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    rows, columns = attrs["factor"]
    y = x.new_zeros(*x.shape[:2], rows * (x.shape[2] - 1) + 1, columns * (x.shape[3] - 1) + 1)
    y[:, :, ::rows, ::columns] = x
    return y


def _reshape(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], *attrs["shape"])


def _pad(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return F.pad(x, [amount for pair in reversed(attrs["pads"]) for amount in pair])


def _slice(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    bounds = zip(attrs["starts"], attrs["ends"], attrs["steps"], strict=True)
    return x[(slice(None), *(slice(*triple) for triple in bounds))]


def _take(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x.index_select(attrs["axis"] + 1, torch.tensor(attrs["indices"], device=x.device))


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    return Op(op=node.op, inputs=node.inputs, output=node.name, attrs=dict(node.attrs))


def _moving(name: str, value: FloatFunction, attributes: str, *, homogeneous: bool = False) -> Operator:
    return Operator(
        name=name, kind="moves", attributes=attributes, value=value, lower=_lower, homogeneous=homogeneous
    )


OPERATORS = (
    _moving("max_pool2d", _max_pool2d, "kernel, stride, padding, dilation, ceil_mode", homogeneous=True),
    _moving("reshape", _reshape, "shape of one sample; flatten is a reshape", homogeneous=True),
    _moving("pad", _pad, "pads ((before, after) a dimension), with zeros"),
    _moving("permute", _permute, "axes: dimension i of the result is the input's axes[i]"),
    _moving("upsample_nearest", _upsample_nearest, "factor, two integers"),
    _moving(
        "insert_zeros",
        _insert_zeros,
        "factor, two integers: zeros between rows and columns, for transposed convolutions",
    ),
    _moving("slice", _slice, "starts, ends, steps, one a dimension"),
    _moving("take", _take, "axis, and indices along it, in any order and more than once"),
)
