"""Convolutions, products by matrices, and normalizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.functions.reading import NodeModule
from stages.importers.onnx_file.tensors import Array


def _conv(op: NodeModule, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = list(weight.shape[2:])
    strides, dilations, before, after = reading.window(op, x, kernel)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}.get(len(kernel))
    if convolve is None:
        raise ValueError(f"a window of {len(kernel)} dimensions: 1..3 are read")
    if before != after:
        x, before = F.pad(x, reading.padding(before, after)), [0] * len(kernel)
    return convolve(x, weight, bias, strides, before, dilations, op.attr("group", 1))


def _conv_transpose(op: NodeModule, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = list(weight.shape[2:])
    convolve = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}.get(len(kernel))
    if convolve is None:
        raise ValueError(f"a window of {len(kernel)} dimensions: 1..3 are read")
    if op.attr("output_shape") or op.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID", ""):
        raise ValueError("its padding follows from its output's shape. Remedy: export it with pads")
    strides, dilations, before, after = reading.window(op, x, kernel)
    added = list(op.attr("output_padding") or [0] * len(kernel))
    # padding here crops the result; what is cropped less at the end is output padding
    more = [m + b - a for m, b, a in zip(added, before, after, strict=True)]
    if min(more) < 0:
        y = convolve(x, weight, bias, strides, 0, added, op.attr("group", 1), dilations)
        return F.pad(y, [-n for n in reading.padding(before, after)])
    return convolve(x, weight, bias, strides, before, more, op.attr("group", 1), dilations)


def _gemm(op: NodeModule, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """``alpha·A·B + beta·C``; a constant B is held as a linear layer's weight."""
    alpha, beta = op.attr("alpha", 1.0), op.attr("beta", 1.0)
    a = a.t() if op.attr("transA", 0) else a
    weight = b if op.attr("transB", 0) or op.constant(1) else b.t()
    if alpha == 1.0 and (c is None or (beta == 1.0 and c.ndim == 1)):
        return F.linear(a, weight, c)
    y = F.linear(a, weight if alpha == 1.0 else weight * alpha)
    return y if c is None else y + (c if beta == 1.0 else c * beta)


def _matmul(op: NodeModule, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """A constant matrix on the right is held as a linear layer's weight, with what is added to it."""
    if op.constant(1) and b.ndim == 2:
        return F.linear(a, b, bias)
    return torch.matmul(a, b)


def _batch_norm(
    op: NodeModule, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """ONNX's momentum is the share that is kept, torch's the share that is new."""
    momentum = 1.0 - op.attr("momentum", 0.9)
    return F.batch_norm(x, mean, variance, weight, bias, op.training, momentum, op.attr("epsilon", 1e-5))


def _instance_norm(op: NodeModule, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=weight, bias=bias, eps=op.attr("epsilon", 1e-5))


def _group_norm(op: NodeModule, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    groups = op.attr("num_groups")
    if op.opset < 21 and groups != x.shape[1]:  # one factor a group
        weight, bias = (t.repeat_interleave(int(x.shape[1]) // groups) for t in (weight, bias))
    return F.group_norm(x, groups, weight, bias, op.attr("epsilon", 1e-5))


def _layer_norm(
    op: NodeModule, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    axis = reading.axis_of(op.attr("axis", -1), x.ndim)
    shape = list(x.shape[axis:])
    weight, bias = (
        None if t is None else t.expand(shape) if list(t.shape) != shape else t for t in (weight, bias)
    )
    return F.layer_norm(x, shape, weight, bias, op.attr("epsilon", 1e-5))


def _rms_norm(op: NodeModule, x: Tensor, weight: Tensor | None = None) -> Tensor:
    axis = reading.axis_of(op.attr("axis", -1), x.ndim)
    return F.rms_norm(x, list(x.shape[axis:]), weight, op.attr("epsilon", 1e-5))


def _lrn(op: NodeModule, x: Tensor) -> Tensor:
    size = op.attr("size")
    return F.local_response_norm(x, size, op.attr("alpha", 1e-4), op.attr("beta", 0.75), op.attr("bias", 1.0))


def _dropout(op: NodeModule, x: Tensor, ratio: Array | None = None, training: Array | None = None) -> Tensor:
    share = op.attr("ratio", 0.5 if ratio is None else float(ratio.reshape(-1)[0]))
    return F.dropout(x, share, op.training)


def _skip_layer_norm(
    op: NodeModule,
    x: Tensor,
    skip: Tensor,
    weight: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    total = x + skip if bias is None else x + skip + bias
    return F.layer_norm(total, list(x.shape[-1:]), weight, beta, op.attr("epsilon", 1e-12))


FUNCTIONS: Mapping[str, Any] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "LRN": _lrn,
    "Dropout": _dropout,
    "com.microsoft.SkipLayerNormalization": _skip_layer_norm,
}
