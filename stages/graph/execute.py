"""Running a graph in torch: the float network, and the place where observation and simulation hook in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from stages.data.batches import channels_last
from stages.graph.functions import clamp
from stages.graph.ir import Graph, Node
from stages.graph.operators.layers import linear_map
from stages.graph.operators.registry import is_layer, operator

Hook = Callable[[Node, Tensor], Tensor]
"""Called with each node and its value; what it returns is what the consumers read."""

LayerFunction = Callable[..., Tensor]
"""Computes a node that has weights: (node, x) or (node, x, residual) to its value before any clamp."""


def execute(
    graph: Graph,
    x: Tensor,
    hook: Hook | None = None,
    layer: LayerFunction | None = None,
    step: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Run the network on `x`, float32 (N, *graph.input.shape); returns the output value.

    Values are dropped after their last reader, so that the peak is the largest set of live ones. Images are
    in channels-last memory order, and so is what is computed from them.

    Args:
        graph: the network.
        x: its input.
        hook: sees and replaces each node's value.
        layer: computes the nodes with weights, instead of their own parameters.
        step: computes all nodes but the input, (node, *operands) to its value.
    """
    if step is None:
        step = partial(compute, graph, layer=layer)
    last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        value = step(node, *operands) if node.inputs else channels_last(x)
        values[node.name] = value if hook is None else hook(node, value)
        del operands, value
        for name in set(node.inputs):
            if last_reader[name] == node.name and name != graph.output:
                del values[name]
    return values[graph.output]


def compute(graph: Graph, node: Node, *operands: Tensor, layer: LayerFunction | None = None) -> Tensor:
    """The value of one node, other than the input, from the values that it reads."""
    if layer is not None and is_layer(node):
        return activate(node, layer(node, *operands))
    value = operator(node).value(node.attrs, graph.roles(node), *operands)
    # a layer's value is its own: writing it anew costs a tenth of the pass, most of it for fresh memory
    own = is_layer(node) and not torch.is_grad_enabled()
    return clamp(value, node.clamp_min, node.clamp_max, in_place=own)


def activate(node: Node, pre_activation: Tensor) -> Tensor:
    """The node's clamp applied: the identity where it has none."""
    return clamp(pre_activation, node.clamp_min, node.clamp_max)


def pre_activation(
    node: Node, weight: Tensor, bias: Tensor | None, x: Tensor, residual: Tensor | None = None
) -> Tensor:
    """What a layer computes over the given parameters, before its clamp."""
    y = linear_map(node.attrs, x, weight, bias)
    return y if residual is None else y + residual
