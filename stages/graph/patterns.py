"""Normalizations written by hand, recognized: many small operators, each rounded, become one.

``x · rsqrt(mean(x²) + eps)``, and divided by the root likewise, is a ``rms_norm``; where x is ``v − mean(v)``
over the last dimension, a ``layer_norm`` of v. ``x / max(√Σx², eps)`` is a ``normalize`` (F.normalize). What
then nothing reads is left out. Values that are computed twice in the same way count as one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stages.graph.functions import Steps
from stages.graph.ir import Graph, Node

_RECIPROCAL_ROOTS = ((("rsqrt",),), (("sqrt",), ("reciprocal",)), (("power", -0.5),))


def recognize_norms(graph: Graph) -> Graph:
    """The same float function, with each normalization that is found as one node."""
    nodes = {node.name: node for node in graph.nodes}
    found = {node.name: own for node in graph.nodes if (own := _norm(nodes, node)) is not None}
    if not found:
        return graph
    return _used(replace(graph, nodes=tuple(found.get(node.name, node) for node in graph.nodes)))


def _norm(nodes: dict[str, Node], node: Node) -> Node | None:
    if node.op != "multiply" or node.attrs["scale"] != 1.0:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        steps, source = _steps(nodes, nodes[other])
        if source.op not in ("mean", "sum") or not source.attrs["keepdim"] or len(source.attrs["axes"]) != 1:
            continue
        squares = nodes[source.inputs[0]]
        if squares.attrs.get("steps") != (("power", 2.0),) or squares.clamps:
            continue
        if not _same(nodes, squares.inputs[0], x) or nodes[x].shape != node.shape:
            continue
        axis = source.attrs["axes"][0]
        eps = _mean_eps(steps) if source.op == "mean" else _norm_eps(steps)
        if eps is None:
            continue
        if source.op == "sum":
            return replace(node, op="normalize", inputs=(x,), attrs={"axis": axis, "eps": eps})
        centred = _centred(nodes, nodes[x], axis)
        if centred is not None and axis == len(node.shape) - 1:
            return replace(node, op="layer_norm", inputs=(centred,), attrs={"eps": eps})
        return replace(node, op="rms_norm", inputs=(x,), attrs={"axis": axis, "eps": eps})
    return None


def _steps(nodes: dict[str, Node], node: Node) -> tuple[Steps, Node]:
    """The functions of one value between a node and what is no such function; broadcasts count as none."""
    steps: Steps = ()
    while True:
        if node.op in ("table", "clamp"):
            bounds: tuple[Any, ...] = ("clamp", node.clamp_min, node.clamp_max)
            steps = (*node.attrs.get("steps", ()), *((bounds,) if node.clamps else ()), *steps)
        elif not _broadcasts(nodes, node):
            return steps, node
        node = nodes[node.inputs[0]]


def _broadcasts(nodes: dict[str, Node], node: Node) -> bool:
    """Whether a node repeats a dimension of size 1 and does nothing else."""
    if node.op != "take":
        return False
    sizes = list(zip(nodes[node.inputs[0]].shape, node.shape, strict=False))
    return all(before in (1, after) for before, after in sizes) and any(a != b for a, b in sizes)


def _mean_eps(steps: Steps) -> float | None:
    """eps of ``1 / √(m + eps)``."""
    eps = 0.0
    if steps and steps[0][0] == "affine" and steps[0][1] == 1.0:
        eps, steps = float(steps[0][2]), steps[1:]
    return eps if steps in _RECIPROCAL_ROOTS and eps >= 0.0 else None


def _norm_eps(steps: Steps) -> float | None:
    """eps of ``1 / max(√s, eps)``."""
    if steps in _RECIPROCAL_ROOTS:
        return 0.0
    if len(steps) != 3 or steps[0] != ("sqrt",) or steps[2] != ("reciprocal",) or steps[1][0] != "clamp":
        return None
    _, low, high = steps[1]
    return None if low is None or high is not None else float(low)


def _centred(nodes: dict[str, Node], node: Node, axis: int) -> str | None:
    """v, of a node that computes ``v − mean(v)`` over `axis`."""
    if node.op != "subtract" or node.clamps:
        return None
    v, mean = node.inputs[0], nodes[node.inputs[1]]
    whole = mean.op == "mean" and mean.attrs["axes"] == (axis,) and mean.attrs["keepdim"] and not mean.clamps
    return v if whole and _same(nodes, mean.inputs[0], v) else None


def _same(nodes: dict[str, Node], a: str, b: str) -> bool:
    """Whether two values are one, or computed in the same way."""
    if a == b:
        return True
    one, other = nodes[a], nodes[b]
    return (
        replace(one, name="", inputs=(), module="") == replace(other, name="", inputs=(), module="")
        and one.op not in ("input", "dropout")
        and len(one.inputs) == len(other.inputs)
        and all(_same(nodes, i, j) for i, j in zip(one.inputs, other.inputs, strict=True))
    )


def _used(graph: Graph) -> Graph:
    """Without nodes that nothing reads, and their parameters."""
    needed = {graph.output, graph.input.name}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed |= set(node.inputs)
    nodes = tuple(node for node in graph.nodes if node.name in needed)
    keys = {key for node in nodes for key in node.params.values()}
    params = {key: tensor for key, tensor in graph.params.items() if key in keys}
    return replace(graph, nodes=nodes, params=params, frozen=graph.frozen & keys, pruned=graph.pruned & keys)
