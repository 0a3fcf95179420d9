"""Where a graph is quantized.

A value that is computed, and the input, has quantization parameters of its own: it is a quantization point. A
value that is only selected or moved has those of the value it came from.
"""

from __future__ import annotations

from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer, operator


def quantization_points(graph: Graph) -> tuple[str, ...]:
    """Names of the values that carry quantization parameters of their own, in execution order."""
    return tuple(node.name for node in graph.nodes if operator(node).own_levels)


def sources(graph: Graph) -> dict[str, str]:
    """For every value, the quantization point whose parameters it has."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        found[node.name] = node.name if operator(node).own_levels else found[node.inputs[0]]
    return found


def layers(graph: Graph) -> tuple[str, ...]:
    """Names of the nodes that have weights, in execution order."""
    return tuple(node.name for node in graph.nodes if is_layer(node))


def weight_name(node: Node) -> str:
    """The name of a layer's weight, which the layers that share it have in common; else the layer's own."""
    return node.params["weight"].removesuffix(".weight")
