"""Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721, eq. 8–11).

ReLU is positively homogeneous, ``relu(s·x) = s·relu(x)`` for s > 0, so that between two layers a channel can
be scaled down by s where it is made and up by s where it is read, and the network computes the same:

    ``W1[i] /= s_i,  b1[i] /= s_i,  W2[:, i] *= s_i``   with   ``s_i = sqrt(r1_i / r2_i)``,

``r1_i`` and ``r2_i`` the largest absolute weights of channel i on either side: afterwards both are
``sqrt(r1_i r2_i)``, and one scale per tensor suits all channels of a layer.

Weights are not all that a channel is made of. Where they are close to zero and the bias is not, s_i would
make the channel large enough to ruin the scale of all of the layer's values. Hence s_i is raised, to 1 at the
most, until ``|b1_i| / s_i`` is no more than what it, or a weight, comes to among the half of the channels
that have the larger factors. Altogether a channel is scaled by no more than `LIMIT`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer, operator

LIMIT = 2.0**10
"""Channels whose ranges differ by more than its square make next to nothing."""


class Pair(NamedTuple):
    """Two layers of which the first is read by the second alone, through ReLU and pools at the most."""

    first: Node
    second: Node


def equalize(
    graph: Graph, *, iterations: int = 20, tolerance: float = 1e-3, replace_relu6: bool = False
) -> Graph:
    """Equalize a folded, fused graph; the float function is unchanged but for rounding.

    Args:
        graph: BatchNorm folded, fused.
        iterations: the most sweeps over all pairs; chains of layers converge in a few.
        tolerance: stop where no factor differs from 1 by more.
        replace_relu6: drop the upper bound of clamps between layers first, as the paper does for ReLU6.
            This does change the float function, where values exceed the bound.
    """
    if replace_relu6:
        graph = _without_upper_bounds(graph)
    pairs = equalizable(graph)
    params = {key: tensor.double() for key, tensor in graph.params.items()}
    done = [torch.ones((), dtype=torch.float64)] * len(pairs)
    for _ in range(iterations):
        largest = 0.0
        for index, pair in enumerate(pairs):
            factors = _factors(pair, params, done[index])
            scale_channels(pair, params, factors)
            done[index] = done[index] * factors
            largest = max(largest, float((factors - 1.0).abs().max()))
        if largest <= tolerance:
            break
    return graph.with_params({key: tensor.float() for key, tensor in params.items()})


def equalizable(graph: Graph) -> list[Pair]:
    """The pairs of layers between which channels can be scaled, in execution order.

    Layers that share a parameter are left out: scaling it for one would change the others.
    """
    uses = Counter(key for node in graph.nodes for key in set(node.params.values()))
    alone = {node.name for node in graph.nodes if all(uses[key] == 1 for key in node.params.values())}
    return [
        Pair(node, second)
        for node in graph.nodes
        if (second := _reader(graph, node)) is not None and {node.name, second.name} <= alone
    ]


def _reader(graph: Graph, first: Node) -> Node | None:
    """The layer that alone reads `first`, if scaling may pass to it."""
    if not is_layer(first) or len(first.inputs) > 1 or first.name == graph.output:
        return None
    node, rows = first, first.op == "linear" and len(first.shape) > 1  # channels are the last dimension
    while True:
        low, high = node.clamp_min, node.clamp_max
        users = graph.users(node.name)
        if high is not None or low not in (None, 0.0) or len(users) != 1 or node.name == graph.output:
            return None
        reader = users[0]
        if is_layer(reader):
            if rows != (reader.op == "linear" and len(node.shape) > 1):
                return None
            return reader if len(reader.inputs) == 1 else _main_input(reader, node)
        if (
            rows
            or not operator(reader).homogeneous
            or (reader.op == "reshape" and len(reader.attrs["shape"]) != 1)
        ):
            return None
        node = reader


def _main_input(reader: Node, node: Node) -> Node | None:
    """A residual cannot be scaled: only the input that the weights are applied to."""
    return reader if reader.inputs[0] == node.name and reader.inputs[1] != node.name else None


def input_channels(node: Node, weight: Tensor, channels: int) -> Tensor:
    """A view (or copy) of a layer's weight with the input channel first: (channels, m)."""
    if node.op == "linear":  # a flattened image: each channel is a run of features
        return weight.reshape(weight.shape[0], channels, -1).transpose(0, 1).reshape(channels, -1)
    groups = node.attrs["groups"]
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return grouped.transpose(1, 2).reshape(channels, -1)


def scale_channels(pair: Pair, params: dict[str, Tensor], factors: Tensor) -> None:
    """Divide channels by `factors`, (channels,), where they are made, and multiply where they are read."""
    first, second = (params[node.params["weight"]] for node in pair)
    params[pair.first.params["weight"]] = first / factors.reshape(-1, *[1] * (first.ndim - 1))
    if (bias := pair.first.params.get("bias")) is not None:
        params[bias] = params[bias] / factors
    params[pair.second.params["weight"]] = _scale_input_channels(pair.second, second, factors)


def _scale_input_channels(node: Node, weight: Tensor, factors: Tensor) -> Tensor:
    if node.op == "linear":
        return (weight.reshape(weight.shape[0], factors.numel(), -1) * factors[:, None]).reshape(weight.shape)
    groups = node.attrs["groups"]
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return (grouped * factors.reshape(groups, 1, -1, 1, 1)).reshape(weight.shape)


def _factors(pair: Pair, params: Mapping[str, Tensor], done: Tensor) -> Tensor:
    """s of one pair, (channels,), where its channels were scaled by `done` before."""
    first, second = (params[node.params["weight"]] for node in pair)
    channels = first.shape[0]
    r1 = first.reshape(channels, -1).abs().amax(dim=1)
    r2 = input_channels(pair.second, second, channels).abs().amax(dim=1)
    alive = (r1 > 0) & (r2 > 0)  # a dead channel keeps its scale
    factors = torch.where(alive, torch.sqrt(r1 / r2.clamp_min(1e-300)), torch.ones_like(r1))
    if "bias" in pair.first.params:
        bias = params[pair.first.params["bias"]].abs()
        least_raised = factors >= factors.median()
        largest = (torch.maximum(bias, r1) / factors)[least_raised].max().clamp_min(1e-300)
        factors = torch.maximum(factors, (bias / largest).clamp_max(1.0))
    return (done * factors).clamp(1.0 / LIMIT, LIMIT) / done


def _without_upper_bounds(graph: Graph) -> Graph:
    """The graph with ReLU in place of ReLU6 wherever a pair of layers meets."""
    opened = replace(
        graph,
        nodes=tuple(replace(n, clamp_max=None) for n in graph.nodes),
    )
    between = {pair.first.name for pair in equalizable(opened)}
    nodes = tuple(
        new if new.name in between else old for old, new in zip(graph.nodes, opened.nodes, strict=True)
    )
    return replace(graph, nodes=nodes)
