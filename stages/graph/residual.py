"""The residual stream at a width of its own: layers read copies of it, additions the stream itself.

Learned step sizes (Esser et al. 2020, section 2), PACT and APoT round what layers multiply, weights and
inputs, to 2–4 bits, and add shortcuts unrounded. Where a shortcut has no more bits than the layers' inputs,
each block rounds the sum of all blocks before it once more. Here the sum has more bits, and the layers read
it rounded further: a *copy*, in the program a requantization, 256 levels to few.
"""

from __future__ import annotations

from dataclasses import replace

from stages.graph.ir import Graph, Node
from stages.graph.points import layers, quantization_points, sources

SUMS = ("add", "subtract")


def residual_stream(graph: Graph) -> frozenset[str]:
    """The quantization points that additions form or read."""
    source, own = sources(graph), frozenset(layers(graph))
    sums = [node for node in graph.nodes if node.op in SUMS or (node.name in own and len(node.inputs) == 2)]
    added = (name for node in sums for name in (node.inputs if node.op in SUMS else node.inputs[1:]))
    return frozenset(node.name for node in sums) | {source[name] for name in added}


def with_copies(graph: Graph) -> Graph:
    """The same float function, with a copy of each value of the stream for the layers that read it.

    A copy stands behind its value, bears its name with ``.operand``, and is clamped at 0 where the value is.
    """
    source, stream, own = sources(graph), residual_stream(graph), frozenset(layers(graph))
    read = {graph[name].inputs[0] for name in own}
    copied = {name: f"{name}.operand" for name in read if source[name] in stream}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name in own and node.inputs[0] in copied:
            node = replace(node, inputs=(copied[node.inputs[0]], *node.inputs[1:]))
        nodes.append(node)
        if node.name in copied:
            low = graph[source[node.name]].clamp_min
            nodes.append(
                Node(
                    name=copied[node.name],
                    op="clamp",
                    inputs=(node.name,),
                    clamp_min=0.0 if low == 0.0 else None,
                    shape=node.shape,
                    module=node.module,
                )
            )
    return replace(graph, nodes=tuple(nodes))


def originals(graph: Graph, observed: Graph) -> dict[str, str]:
    """For every quantization point, the point of the graph without copies whose values it takes."""
    source = sources(observed)
    known = frozenset(quantization_points(observed))
    return {
        name: name if name in known else source[graph[name].inputs[0]] for name in quantization_points(graph)
    }
