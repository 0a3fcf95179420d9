"""Layers with parameters."""

from __future__ import annotations

from collections.abc import Mapping

from stages.graph.aten.call import Call, Param, Translation, pair, params
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


def _linear(call: Call) -> Node:
    if len(call.input_shape()) != 1:
        raise ValueError(f"input of one sample has shape {call.input_shape()}; flatten to (features,) first")
    weight = call.args[1]
    if not isinstance(weight, Param):
        raise ValueError("its weight is computed; only a parameter can be quantized once")
    return Node(
        name="",
        op="linear",
        inputs=(call.value(),),
        params=params(weight=weight, bias=call.arg(2, "bias")),
    )


def _batch_norm(call: Call) -> Node:
    _, gamma, beta, mean, variance = call.args[:5]
    if not (isinstance(mean, Param) and isinstance(variance, Param)):
        raise ValueError("has no running statistics; set track_running_stats=True")
    return Node(
        name="",
        op="batch_norm",
        inputs=(call.value(),),
        attrs={"eps": float(call.arg(7, "eps"))},
        params=params(weight=gamma, bias=beta, running_mean=mean, running_var=variance),
    )


LAYERS: Mapping[str, Translation] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
}
