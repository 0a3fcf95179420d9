"""Layers with parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from stages.graph.aten.arithmetic import scaled
from stages.graph.aten.call import Call, Param, Translation, pair, params
from stages.graph.aten.refusal import RefusalError
from stages.graph.aten.rows import as_image, row
from stages.graph.ir import Node


def _conv2d(call: Call) -> Node:
    weight = call.args[1]
    if not isinstance(weight, Param):
        raise ValueError("its weight is computed; only a parameter can be quantized once")
    dilation = pair(call.arg(5, "dilation", 1))
    padding = call.arg(4, "padding", 0)
    if isinstance(padding, str):
        extent = [d * (k - 1) for d, k in zip(dilation, weight.tensor.shape[2:], strict=True)]
        if padding == "same" and any(e % 2 for e in extent):
            raise ValueError("padding='same' of an even kernel is one-sided; pad explicitly before it")
        padding = (extent[0] // 2, extent[1] // 2) if padding == "same" else 0
    return Node(
        name="",
        op="conv2d",
        inputs=(call.value(),),
        attrs={
            "stride": pair(call.arg(3, "stride", 1)),
            "padding": pair(padding),
            "dilation": dilation,
            "groups": int(call.arg(6, "groups", 1)),
        },
        params=params(weight=weight, bias=call.arg(2, "bias")),
    )


def _conv1d(call: Call) -> tuple[Node, ...]:
    weight = call.args[1]
    if not isinstance(weight, Param):
        raise ValueError("its weight is computed; only a parameter can be quantized once")
    padding = call.arg(4, "padding", 0)
    image = replace(
        call,
        args=(
            call.args[0],
            call.derived(weight, weight.tensor[:, :, None]),
            call.arg(2, "bias"),
            row(call.arg(3, "stride", 1), 1),
            padding if isinstance(padding, str) else row(padding, 0),
            row(call.arg(5, "dilation", 1), 1),
            call.arg(6, "groups", 1),
        ),
    )
    return as_image(call, _conv2d(image))


def _linear(call: Call) -> Node:
    weight = call.args[1]
    if not isinstance(weight, Param):
        raise ValueError("its weight is computed; only a parameter can be quantized once")
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
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "prelu": _prelu,
}
