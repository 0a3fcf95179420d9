"""Dropout in a graph, which is there for training alone.

A captured network has it where the module has it. Fusion leaves it out, since in evaluation it is the
identity, or keeps it for quantized training: then it drops values that are rounded already, and stands behind
what integers compute in one step. A sum is the exception: a layer whose result is dropped before a residual
is added drops it itself (attribute ``dropout`` of the layer).

Training has to have the nodes of what is deployed. Hence dropout is taken out (`taken_out`) of a graph
that was fused with it, and put back (`put_back`) where the nodes of the deployed graph read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stages.graph.ir import Graph, Node


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """One dropout node.

    Args:
        node: as it stood in the graph.
        readers: (name, position among its inputs) of what read it; ``("", 0)``: the network's output.
    """

    node: Node
    readers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Dropouts:
    """All of a graph: nodes in order, and by name of a layer what it drops of its own result."""

    nodes: Sequence[Dropout] = ()
    layers: Mapping[str, tuple[Node, ...]]


def undropped(graph: Graph, name: str) -> str:
    """The value that `name` is, but for dropout."""
    while graph[name].op == "dropout":
        name = graph[name].inputs[0]
    return name


def without_dropout(graph: Graph) -> Graph:
    """The network in evaluation."""
    renamed = {node.name: undropped(graph, node.name) for node in graph.nodes if node.op == "dropout"}
    nodes = (
        replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        for node in graph.nodes
        if node.name not in renamed
    )
    return replace(graph, nodes=tuple(nodes), output=renamed.get(graph.output, graph.output))


def only_read_by(graph: Graph, name: str, reader: Node) -> bool:
    """Whether nothing else reads the value."""
    return graph.output != name and graph.users(name) == [reader]


def behind(graph: Graph, dropout: Node, reader: Node) -> Graph:
    """The graph with `dropout`, which `reader` alone reads, behind it."""
    before, name = dropout.inputs[0], reader.name
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == dropout.name:
            continue
        old = dropout.name if node.name == name else name
        new = before if node.name == name else dropout.name
        nodes.append(replace(node, inputs=tuple(new if i == old else i for i in node.inputs)))
        if node.name == name:
            nodes.append(replace(dropout, inputs=(name,), shape=reader.shape))
    return replace(graph, nodes=tuple(nodes), output=dropout.name if graph.output == name else graph.output)


def taken_out(graph: Graph) -> tuple[Graph, Dropouts]:
    """The network in evaluation, and the dropout it had."""
    layers: dict[str, tuple[Node, ...]] = {
        node.name: node.attrs["dropout"] for node in graph.nodes if "dropout" in node.attrs
    }
    found = []
    for dropout in (node for node in graph.nodes if node.op == "dropout"):
        readers = [
            (node.name, position)
            for node in graph.nodes
            for position, name in enumerate(node.inputs)
            if name == dropout.name
        ]
        if graph.output == dropout.name:
            readers.append(("", 0))
        found.append(Dropout(node=dropout, readers=tuple(readers)))
    nodes = (
        replace(node, attrs={k: v for k, v in node.attrs.items() if k != "dropout"}) for node in graph.nodes
    )
    plain = without_dropout(replace(graph, nodes=tuple(nodes)))
    return plain, Dropouts(nodes=tuple(found), layers=layers)


def put_back(graph: Graph, dropouts: Dropouts) -> Graph:
    """The `graph` with the dropout of another whose nodes it has, among others or reading copies."""
    for dropout in reversed(dropouts.nodes):  # of a chain, the last comes first: it is what the others read
        by_value: dict[str, list[tuple[str, int]]] = {}
        for name, position in dropout.readers:
            value = graph[name].inputs[position] if name else graph.output
            by_value.setdefault(value, []).append((name, position))
        for count, (value, readers) in enumerate(by_value.items()):
            suffix = f":{count + 1}" if count else ""
            graph = _inserted(graph, replace(dropout.node, name=dropout.node.name + suffix), value, readers)
    nodes = (
        replace(node, attrs={**node.attrs, "dropout": dropouts.layers[node.name]})
        if node.name in dropouts.layers
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _inserted(graph: Graph, dropout: Node, value: str, readers: Sequence[tuple[str, int]]) -> Graph:
    """The graph with `dropout` behind a value, for some of those that read it."""
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = (
            dropout.name if (node.name, position) in readers else name
            for position, name in enumerate(node.inputs)
        )
        nodes.append(replace(node, inputs=tuple(inputs)))
        if node.name == value:
            nodes.append(replace(dropout, inputs=(value,), shape=node.shape))
    return replace(graph, nodes=tuple(nodes), output=dropout.name if ("", 0) in readers else graph.output)
