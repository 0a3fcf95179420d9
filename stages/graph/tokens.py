"""Numbers of tokens: inputs that an embedding reads, which no scale may round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import operator
from stages.graph.points import sources
from stages.quant.qparams import QParams

BYTE = 256
"""Levels of 8 bits."""

LOOKED_UP = frozenset({"embedding", "table", "aten", "constant", "input"})
"""Operators that take numbers as they are, or do not look at what they read."""


def token_counts(graph: Graph) -> Mapping[str, int]:
    """By input that embeddings read, as it is or moved: how many tokens all of them know."""
    source, found = sources(graph), dict[str, int]()
    for node in graph.nodes:
        if node.op == "embedding" and graph[name := source[node.inputs[0]]].op == "input":
            rows = len(graph.params[node.params["table"]])
            found[name] = min(rows, found.get(name, rows))
    return found


def computed_numbers(graph: Graph) -> Mapping[str, int]:
    """By value that an embedding's numbers are computed by, as places of a mask: the most that it counts to.

    These are whole numbers, and stay exact as levels of scale 1: at most 256, or the rows of the table.
    """
    source, found = sources(graph), dict[str, int]()
    for node in graph.nodes:
        if node.op == "embedding":
            name = source[node.inputs[0]]
            found[name] = min(len(graph.params[node.params["table"]]), found.get(name, BYTE))
    waiting = list(found)
    while waiting:
        node = graph[waiting.pop()]
        for name in (source[name] for name in node.inputs) if _whole(node) else ():
            if name not in found:
                found[name] = BYTE
                waiting.append(name)
    return {name: count for name, count in found.items() if graph[name].op != "input"}


def _whole(node: Node) -> bool:
    """Whether a node that gives whole numbers reads whole numbers."""
    if node.op == "table":
        steps = node.attrs["steps"]
        return all(step[0] == "affine" and all(float(own).is_integer() for own in step[1:]) for step in steps)
    return node.op in ("add", "subtract", "multiply")


def with_reals(graph: Graph) -> Graph:
    """The network in which what computes with numbers, as a mask of ones and zeros, reads them as reals.

    Embeddings and tables look numbers up, and islands of float take them as they are. Others compute with
    levels of 8 bits: they read a table of the numbers.
    """
    counts = token_counts(graph)
    if not counts:
        return graph
    source, nodes = sources(graph), list[Node]()
    made: dict[str, str] = {}
    for node in graph.nodes:
        computes = operator(node).own_levels and node.op not in LOOKED_UP
        for name in node.inputs if computes else ():
            if source[name] in counts and name not in made:
                made[name] = f"{name}.reals"
                steps = (("affine", 1.0, 0.0),)
                own = Node(name=made[name], op="table", inputs=(name,), attrs={"steps": steps})
                nodes.append(replace(own, shape=graph[name].shape, module=node.module))
        inputs = tuple(made.get(name, name) for name in node.inputs) if computes else node.inputs
        nodes.append(replace(node, inputs=inputs))
    return replace(graph, nodes=tuple(nodes))


def token_qparams(count: int) -> QParams:
    """Levels that are the numbers 0 … count − 1 themselves."""
    zero = torch.zeros((), dtype=torch.int32)
    return QParams(scale=torch.ones(()), zero_point=zero, quant_min=0, quant_max=count - 1)
