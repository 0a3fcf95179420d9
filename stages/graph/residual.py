"""The residual stream at a width of its own: layers read copies of it, additions the stream itself.

Learned step sizes (Esser et al. 2020, section 2), PACT and APoT round what layers multiply, weights and
inputs, to 2–4 bits, and add shortcuts unrounded. Where a shortcut has no more bits than the layers' inputs,
each block rounds the sum of all blocks before it once more. Here the sum has more bits, and the layers read
it rounded further: a *copy*, in the program a requantization, 256 levels to few.

The same holds at 8 bits for transformers, whose streams have a few channels a hundred times as large as the
others (Bondarenko et al. 2021, arXiv 2109.12948): with 16 bits for the stream, 8 bits are enough for what
layers multiply.
"""

from __future__ import annotations

from dataclasses import replace

from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import operator
from stages.graph.points import layers, quantization_points, sources

SUMS = ("add", "subtract")

WIDE = 9
"""From so many bits on, levels take more than 8: operators that know of it alone read and give them."""


def residual_stream(graph: Graph, bits: int) -> frozenset[str]:
    """The quantization points that additions form or read.

    With more than 8 bits, those whose operators give as many: sums, layers, layer norm.
    """
    source, own = sources(graph), frozenset(layers(graph))
    sums = [node for node in graph.nodes if node.op in SUMS or (node.name in own and len(node.inputs) == 2)]
    added = (name for node in sums for name in (node.inputs if node.op in SUMS else node.inputs[1:]))
    found = frozenset(node.name for node in sums) | {source[name] for name in added}
    return found if bits < WIDE else frozenset(name for name in found if operator(graph[name]).stream)


def with_copies(graph: Graph, bits: int) -> Graph:
    """The same float function, with a copy of each value of the stream for the layers that read it.

    A copy stands behind its value, bears its name with ``.operand``, and is clamped at 0 where the value is.
    With more than 8 bits, all that reads no such levels reads copies: all but sums and layer norm.
    """
    source, stream, own = sources(graph), residual_stream(graph, bits), frozenset(layers(graph))

    def narrow(node: Node, place: int) -> bool:
        if source[node.inputs[place]] not in stream:
            return False
        if node.name in own:
            return place == 0
        return bits >= WIDE and operator(node).own_levels and not operator(node).stream

    reads = {n.name: [narrow(n, place) for place in range(len(n.inputs))] for n in graph.nodes}
    copied = {name for n in graph.nodes for name, copy in zip(n.inputs, reads[n.name], strict=True) if copy}
    output = graph.output
    if bits >= WIDE and source[output] in stream:
        copied.add(output)
        output = _copy_of(output)
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = (
            _copy_of(name) if copy else name for name, copy in zip(node.inputs, reads[node.name], strict=True)
        )
        nodes.append(replace(node, inputs=tuple(inputs)))
        if node.name in copied:
            low = graph[source[node.name]].clamp_min
            nodes.append(
                Node(
                    name=_copy_of(node.name),
                    op="clamp",
                    inputs=(node.name,),
                    clamp_min=0.0 if low == 0.0 else None,
                    shape=node.shape,
                    module=node.module,
                )
            )
    return replace(graph, nodes=tuple(nodes), output=output)


def _copy_of(name: str) -> str:
    return f"{name}.operand"


def originals(graph: Graph, observed: Graph) -> dict[str, str]:
    """For every quantization point, the point of the graph without copies whose values it takes."""
    source = sources(observed)
    known = frozenset(quantization_points(observed))
    return {
        name: name if name in known else source[graph[name].inputs[0]] for name in quantization_points(graph)
    }
