"""Layers with parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from stages.graph.aten.arithmetic import scaled
from stages.graph.aten.call import Call, Param, Translation, pair, params
from stages.graph.aten.refusal import RefusalError
from stages.graph.aten.rows import as_image, row
from stages.graph.ir import Node


def padding_of(call: Call, kernel: Sequence[int]) -> tuple[int, ...]:
    """The zeros around what a convolution with a kernel of that size reads, on each side; one an axis."""
    padding, dilation = call.arg(4, "padding", 0), call.arg(5, "dilation", 1)
    if padding == "valid":
        return (0,) * len(kernel)
    if padding == "same":
        extent = [d * (k - 1) for d, k in zip(_each(dilation, len(kernel)), kernel, strict=True)]
        if any(e % 2 for e in extent):
            raise ValueError("padding='same' of an even kernel is one-sided; pad explicitly before it")
        return tuple(e // 2 for e in extent)
    return _each(padding, len(kernel))


def _each(value: Any, count: int) -> tuple[int, ...]:
    """A number for each axis."""
    items = tuple(value) if isinstance(value, tuple | list) else (value,)
    return tuple(int(item) for item in (items * count if len(items) == 1 else items))


def conv2d(call: Call) -> Node:
    """A convolution of images (C, H, W)."""
    weight = call.parameter()
    return Node(
        name="",
        op="conv2d",
        inputs=(call.value(),),
        attrs={
            "stride": pair(call.arg(3, "stride", 1)),
            "padding": padding_of(call, weight.tensor.shape[2:]),
            "dilation": pair(call.arg(5, "dilation", 1)),
            "groups": int(call.arg(6, "groups", 1)),
        },
        params=params(weight=weight, bias=call.arg(2, "bias")),
    )


def over_image(call: Call) -> Call:
    """A convolution of rows as one of images (C, H, W) by a kernel of one row; its input stays as it is."""
    weight = call.parameter()
    return replace(
        call,
        args=(
            call.args[0],
            call.derived(weight, weight.tensor[:, :, None]),
            call.arg(2, "bias"),
            row(call.arg(3, "stride", 1), 1),
            (0, *padding_of(call, weight.tensor.shape[2:])),
            row(call.arg(5, "dilation", 1), 1),
            call.arg(6, "groups", 1),
        ),
        kwargs={},
    )


def _conv1d(call: Call) -> tuple[Node, ...]:
    return as_image(call, conv2d(over_image(call)))


def _linear(call: Call) -> Node:
    weight = call.parameter()
    return Node(
        name="",
        op="linear",
        inputs=(call.value(),),
        params=params(weight=weight, bias=call.arg(2, "bias")),
    )


def _batch_norm(call: Call) -> Node | tuple[Node, ...]:
    _, gamma, beta, mean, variance = call.args[:5]
    if not (isinstance(mean, Param) and isinstance(variance, Param)):
        raise RefusalError(
            "has no running statistics: it normalizes by those of a batch, whose samples it mixes. Set "
            "track_running_stats=True"
        )
    eps = float(call.arg(7, "eps"))
    if (axis := call.axis(1)) != 0:  # rows merged with the batch, as (N·L, C): at rest, it scales channels
        factor = torch.rsqrt(variance.tensor.double() + eps)
        factor = factor * gamma.tensor.double() if isinstance(gamma, Param) else factor
        offset = -mean.tensor.double() * factor
        offset = offset + beta.tensor.double() if isinstance(beta, Param) else offset
        trained = [own if isinstance(own, Param) else mean for own in (gamma, beta)]
        first, second = call.derived(trained[0], factor.float()), call.derived(trained[1], offset.float())
        return scaled(call, 0, first, second, axis)
    node = Node(
        name="",
        op="batch_norm",
        inputs=(call.value(),),
        attrs={"eps": eps, "momentum": float(call.arg(6, "momentum")), "batches": 0},
        params=params(weight=gamma, bias=beta, running_mean=mean, running_var=variance),
    )
    return as_image(call, node) if len(call.input_shape()) == 2 else node


def _prelu(call: Call) -> Node:
    slope = call.args[1]
    if not isinstance(slope, Param):
        raise ValueError("its slopes are computed; use a parameter")
    return Node(name="", op="prelu", inputs=(call.value(),), params=params(slope=slope))


LAYERS: Mapping[str, Translation] = {
    "conv1d": _conv1d,
    "conv2d": conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "prelu": _prelu,
}
