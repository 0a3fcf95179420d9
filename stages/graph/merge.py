"""One island of float for a chain of them: nothing is rounded between functions that stay float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stages.graph.ir import Graph, Node


def merge_islands(graph: Graph, node: Node) -> Graph | None:
    """The graph with one of the islands that the island `node` reads merged into it; None where none is read.

    One that others read too, or that clamps, stays. Complex numbers have no levels: an island that gives them
    is merged into each of its readers.
    """
    if node.op != "aten":
        return None
    for name in node.inputs:
        inner = graph[name]
        if inner.op != "aten" or inner.clamps:
            continue
        alone = graph.users(name) == [node] and graph.output != name
        if alone or inner.attrs["complex"]:
            merged = _merged(inner, node)
            nodes = (merged if one is node else one for one in graph.nodes if not (alone and one is inner))
            return replace(graph, nodes=tuple(nodes))
    return None


def _merged(inner: Node, outer: Node) -> Node:
    """The calls of both over the inputs of both. Values are numbered: inputs first, then results of calls."""
    inputs = tuple(dict.fromkeys((*inner.inputs, *(n for n in outer.inputs if n != inner.name))))
    before, after = inner.attrs["calls"], outer.attrs["calls"]
    roles = {role: f"{role}:{len(before)}" for role in outer.params}

    def of_inner(index: int) -> int:
        own = len(inner.inputs)
        return inputs.index(inner.inputs[index]) if index < own else len(inputs) + index - own

    def of_outer(index: int) -> int:
        own = len(outer.inputs)
        if index >= own:
            return len(inputs) + len(before) + index - own
        name = outer.inputs[index]
        return len(inputs) + len(before) - 1 if name == inner.name else inputs.index(name)

    calls = (
        *(_renumbered(call, of_inner, {}) for call in before),
        *(_renumbered(call, of_outer, roles) for call in after),
    )
    params = {**inner.params, **{roles[role]: key for role, key in outer.params.items()}}
    why = "; ".join(dict.fromkeys((inner.attrs["why"], outer.attrs["why"])))
    attrs = {**outer.attrs, "calls": calls, "why": why}
    return replace(outer, inputs=inputs, params=params, attrs=attrs)


def _renumbered(call: Any, number: Callable[[int], int], roles: dict[str, str]) -> Any:
    """A call, or an argument of one, with other numbers of values and other roles of parameters."""
    if not isinstance(call, tuple):
        return call
    if call[:1] == ("value",):
        return ("value", number(call[1]), *call[2:])
    if call[:1] == ("param",):
        return ("param", roles.get(call[1], call[1]), *call[2:])
    return tuple(_renumbered(item, number, roles) for item in call)
