"""Pools, sums and extremes along dimensions, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.functions.reading import NodeModule
from stages.importers.onnx_file.tensors import Array


def _max_pool(op: NodeModule, x: Tensor) -> Tensor:
    kernel = list(op.attr("kernel_shape"))
    strides, dilations, before, after = reading.window(op, x, kernel)
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}.get(len(kernel))
    if pool is None:
        raise ValueError(f"a window of {len(kernel)} dimensions: 1..3 are read")
    if before != after or any(2 * b > k for b, k in zip(before, kernel, strict=True)):
        x = F.pad(x, reading.padding(before, after), value=float("-inf") if x.is_floating_point() else 0)
        before = [0] * len(kernel)
    return pool(x, kernel, strides, before, dilations, bool(op.attr("ceil_mode", 0)))


def _average_pool(op: NodeModule, x: Tensor) -> Tensor:
    """Unequal padding is written out; where padding is not counted, so is the number of what is."""
    kernel = list(op.attr("kernel_shape"))
    strides, dilations, before, after = reading.window(op, x, kernel)
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}.get(len(kernel))
    if pool is None or any(d != 1 for d in dilations):
        raise ValueError(
            f"a window of {len(kernel)} dimensions, dilations {dilations}: 1..3, and 1, are read"
        )
    counted, ceil = bool(op.attr("count_include_pad", 0)), bool(op.attr("ceil_mode", 0))
    if before == after and all(2 * b <= k for b, k in zip(before, kernel, strict=True)):
        return pool(x, kernel, strides, before, ceil, counted or not any(before))
    wide = reading.padding(before, after)
    y = pool(F.pad(x, wide), kernel, strides, 0, ceil)
    if counted:
        return y
    ones = torch.ones([1, 1, *x.shape[2:]], dtype=x.dtype)
    return y / pool(F.pad(ones, wide), kernel, strides, 0, ceil)


def _global(reduce: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda op, x: reduce(x, list(range(2, x.ndim)), True)


def _global_average(op: NodeModule, x: Tensor) -> Tensor:
    pool = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d}.get(x.ndim)
    return x.mean(list(range(2, x.ndim)), True) if pool is None else pool(x, 1)


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    def run(op: NodeModule, x: Tensor, axes: Array | None = None) -> Tensor:
        chosen = reading.given(op, "axes", (axes,), 0)
        if not chosen:
            if op.attr("noop_with_empty_axes", 0):
                return x
            chosen = list(range(x.ndim))
        places = sorted(reading.axis_of(int(axis), x.ndim) for axis in chosen)
        return function(x, places, bool(op.attr("keepdims", 1)))

    return run


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, keep)
    return x


def _softmax(op: NodeModule, x: Tensor) -> Tensor:
    """Before version 13 over all dimensions from `axis` on, together."""
    if op.opset >= 13:
        return F.softmax(x, op.attr("axis", -1))
    axis = reading.axis_of(op.attr("axis", 1), x.ndim)
    if math.prod(x.shape[axis + 1 :]) == 1:
        return F.softmax(x, axis)
    return F.softmax(x.flatten(axis), axis).reshape(x.shape)


def _log_softmax(op: NodeModule, x: Tensor) -> Tensor:
    return torch.log(_softmax(op, x)) if op.opset < 13 else F.log_softmax(x, op.attr("axis", -1))


def _arg(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda op, x: function(x, op.attr("axis", 0), bool(op.attr("keepdims", 1)))


FUNCTIONS: Mapping[str, Any] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global(torch.amax),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceProd": _reduce(_product),
    "ReduceSumSquare": _reduce(lambda x, axes, keep: (x * x).sum(axes, keep)),
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceL1": _reduce(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceLogSumExp": _reduce(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
}
