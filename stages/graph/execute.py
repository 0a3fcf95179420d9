"""Running a graph in torch: the float network, and the place where observation and simulation hook in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.data.batches import channels_last
from stages.graph.functions import apply
from stages.graph.ir import Graph, Node

Hook = Callable[[Node, Tensor], Tensor]
"""Called with each node and its value; what it returns is what the consumers read."""

Layer = Callable[..., Tensor]
"""Computes a node that has weights: (node, x) or (node, x, residual) to its value before any clamp."""


def execute(graph: Graph, x: Tensor, hook: Hook | None = None, layer: Layer | None = None) -> Tensor:
    """Run the network on `x`, float32 (N, *graph.input.shape); returns the output value.

    Values are dropped after their last reader, so that the peak is the largest set of live ones. Images are
    in channels-last memory order, and so is what is computed from them.

    Args:
        graph: the network.
        x: its input.
        hook: sees and replaces each node's value.
        layer: computes the nodes with weights, instead of their own parameters (in training).
    """
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        value = channels_last(x) if node.op == "input" else compute(graph, node, *operands, layer=layer)
        values[node.name] = value if hook is None else hook(node, value)
        del operands, value
        for name in set(node.inputs):
            if last_reader[name] == node.name and name != graph.output:
                del values[name]
    return values[graph.output]


def compute(graph: Graph, node: Node, *operands: Tensor, layer: Layer | None = None) -> Tensor:
    """The value of one node, other than the input, from the values that it reads."""
    if layer is None or "weight" not in node.params:
        layer = partial(_COMPUTE[node.op], graph)
    return activate(node, layer(node, *operands))


def activate(node: Node, pre_activation: Tensor) -> Tensor:
    """The node's fused clamp: ``f(x)``, the identity where it has none."""
    return _clamp_to(pre_activation, node.attrs.get("clamp_min"), node.attrs.get("clamp_max"))


def _clamp_to(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if low is None and high is None:
        return x
    if low == 0.0 and high is None:
        return F.relu(x)
    return torch.clamp(x, low, high)


def linear_map(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a conv2d or linear node computes over the given parameters, without residual and clamp."""
    if node.op == "linear":
        return F.linear(x, weight, bias)
    a = node.attrs
    return F.conv2d(x, weight, bias, a["stride"], a["padding"], a["dilation"], a["groups"])


def pre_activation(
    node: Node, weight: Tensor, bias: Tensor | None, x: Tensor, residual: Tensor | None = None
) -> Tensor:
    """What a layer computes over the given parameters, before its clamp."""
    y = linear_map(node, x, weight, bias)
    return y if residual is None else y + residual


def _layer(graph: Graph, node: Node, *operands: Tensor) -> Tensor:
    return pre_activation(node, graph.params[node.params["weight"]], graph.param(node, "bias"), *operands)


def _batch_norm(graph: Graph, node: Node, x: Tensor) -> Tensor:
    mean, variance = graph.param(node, "running_mean"), graph.param(node, "running_var")
    gamma, beta = graph.param(node, "weight"), graph.param(node, "bias")
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=node.attrs["eps"])


def _add(graph: Graph, node: Node, a: Tensor, b: Tensor) -> Tensor:
    return a + b


def _concat(graph: Graph, node: Node, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=node.attrs["axis"] + 1)


def _max_pool2d(graph: Graph, node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    return F.max_pool2d(x, a["kernel"], a["stride"], a["padding"], a["dilation"], a["ceil_mode"])


def _avg_pool2d(graph: Graph, node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    return F.avg_pool2d(x, a["kernel"], a["stride"], a["padding"])


def _clamp(graph: Graph, node: Node, x: Tensor) -> Tensor:
    return x  # the bounds are applied to every node alike


def _table(graph: Graph, node: Node, x: Tensor) -> Tensor:
    return apply(node.attrs["steps"], x)


def _multiply(graph: Graph, node: Node, a: Tensor, b: Tensor) -> Tensor:
    scale: float = node.attrs["scale"]
    return a * b * scale


def _mean(graph: Graph, node: Node, x: Tensor) -> Tensor:
    return x.mean([axis + 1 for axis in node.attrs["axes"]], keepdim=node.attrs["keepdim"])


def _matmul(graph: Graph, node: Node, a: Tensor, b: Tensor) -> Tensor:
    scale: float = node.attrs["scale"]
    return torch.matmul(a, b) * scale


def _softmax(graph: Graph, node: Node, x: Tensor) -> Tensor:
    return F.softmax(x, node.attrs["axis"] + 1)


def _layer_norm(graph: Graph, node: Node, x: Tensor) -> Tensor:
    gamma, beta = graph.param(node, "gamma"), graph.param(node, "beta")
    return F.layer_norm(x, x.shape[-1:], gamma, beta, node.attrs["eps"])


def _constant(graph: Graph, node: Node, x: Tensor) -> Tensor:
    value = graph.params[node.params["value"]]
    return value.expand(len(x), *value.shape)


def _permute(graph: Graph, node: Node, x: Tensor) -> Tensor:
    return x.permute(0, *(axis + 1 for axis in node.attrs["axes"]))


def _upsample_nearest(graph: Graph, node: Node, x: Tensor) -> Tensor:
    rows, columns = node.attrs["factor"]
    return x.repeat_interleave(rows, dim=2).repeat_interleave(columns, dim=3)


def _insert_zeros(graph: Graph, node: Node, x: Tensor) -> Tensor:
    rows, columns = node.attrs["factor"]
    y = x.new_zeros(*x.shape[:2], rows * (x.shape[2] - 1) + 1, columns * (x.shape[3] - 1) + 1)
    y[:, :, ::rows, ::columns] = x
    return y


def _reshape(graph: Graph, node: Node, x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], *node.attrs["shape"])


def _pad(graph: Graph, node: Node, x: Tensor) -> Tensor:
    flat = [amount for pair in reversed(node.attrs["pads"]) for amount in pair]
    return F.pad(x, flat)


def _slice(graph: Graph, node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    index = [slice(*bounds) for bounds in zip(a["starts"], a["ends"], a["steps"], strict=True)]
    return x[(slice(None), *index)]


_COMPUTE: Mapping[str, Callable[..., Tensor]] = {
    "conv2d": _layer,
    "linear": _layer,
    "batch_norm": _batch_norm,
    "add": _add,
    "concat": _concat,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "clamp": _clamp,
    "table": _table,
    "multiply": _multiply,
    "mean": _mean,
    "matmul": _matmul,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "constant": _constant,
    "permute": _permute,
    "upsample_nearest": _upsample_nearest,
    "insert_zeros": _insert_zeros,
    "reshape": _reshape,
    "pad": _pad,
    "slice": _slice,
}
