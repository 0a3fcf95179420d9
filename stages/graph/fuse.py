"""Fusion: operators that the integer engine computes in one step become one node.

Seven rewrites, each leaving the float function unchanged:

1. ``clamp(f(x))`` → ``f`` with bounds, where f requantizes anyway and nothing else reads it. The clamp also
   moves up through operators that only select or move values: ``clamp(max_pool(f(x)))``.
2. ``conv(x) + r`` → ``conv`` with a residual input: the sum is formed before requantization, so that the
   convolution's result is never rounded to 8 bits on its own.
3. ``slice(slice(x))`` → one slice.
4. ``g(f(x))`` → one table, where f and g are element-wise functions, or f a clamp.
5. islands of float, one behind the other → one island.
6. ``c · (a × b)`` → the product, of elements or matrices, with a factor; ``x · f(x)`` → one table.
7. ``softmax(x + mask)`` → a softmax of what the mask keeps (`stages.graph.masks`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from stages.graph.dropout import behind, only_read_by, undropped, without_dropout
from stages.graph.functions import Steps
from stages.graph.ir import Graph, Node
from stages.graph.masks import fuse_masks
from stages.graph.merge import merge_islands
from stages.graph.operators.registry import is_layer, moves, operator
from stages.graph.tokens import with_reals

Rewrite = Callable[[Graph, Node], Graph | None]
"""Looks at one node: the rewritten graph, or None where the node is none of its business."""


def fuse(graph: Graph, *, keep_dropout: bool = False) -> Graph:
    """The same float function in fewer nodes; a fused node keeps the name of the layer that computes.

    Dropout is left out, or kept for training (`stages.graph.dropout`), where it changes no other node.
    """
    if not keep_dropout:
        graph = without_dropout(graph)
    graph = _rewrite_all(graph, _merge_slices)
    graph = _rewrite_all(graph, merge_islands)
    graph = _rewrite_all(graph, _fuse_clamp)
    graph = _rewrite_all(graph, _fuse_residual)
    for rewrite in (_fuse_factor, _fuse_tables, _fuse_gate, _fuse_tables):
        graph = _rewrite_all(graph, rewrite)
    return with_reals(fuse_masks(_rewrite_all(graph, _fuse_clamp)))


def _rewrite_all(graph: Graph, rewrite: Rewrite) -> Graph:
    """Apply a rewrite of one node to all nodes, until it changes nothing."""
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            result = rewrite(graph, node) or _behind_what_fuses(graph, node, rewrite)
            if result is not None:
                graph, changed = result, True
                break
    return graph


def _behind_what_fuses(graph: Graph, node: Node, rewrite: Rewrite) -> Graph | None:
    """Let dropout that keeps a node from being rewritten follow it instead."""
    for dropout in (graph[name] for name in node.inputs if graph[name].op == "dropout"):
        if only_read_by(graph, dropout.name, node) and rewrite is not _fuse_residual:
            moved = behind(graph, dropout, node)
            if rewrite(moved, moved[node.name]) is not None:
                return moved
    return None


def _replace(graph: Graph, old: dict[str, Node | None], renamed: dict[str, str]) -> Graph:
    """Exchange nodes (None removes one), and let readers of a renamed value read the other."""
    nodes = []
    for node in graph.nodes:
        new = old.get(node.name, node)
        if new is not None:
            nodes.append(replace(new, inputs=tuple(renamed.get(name, name) for name in new.inputs)))
    return replace(graph, nodes=tuple(nodes), output=renamed.get(graph.output, graph.output))


def _only_reader(graph: Graph, name: str) -> bool:
    return len(graph.users(name)) == 1 and graph.output != name


def _fuse_clamp(graph: Graph, node: Node) -> Graph | None:
    if node.op != "clamp":
        return None
    source = graph[node.inputs[0]]
    while moves(source) and _only_reader(graph, source.name):
        source = graph[source.inputs[0]]
    if operator(source).kind not in ("layer", "computes") or not _only_reader(graph, source.name):
        return None
    low = _tighter(max, source.clamp_min, node.clamp_min)
    high = _tighter(min, source.clamp_max, node.clamp_max)
    fused = replace(source, clamp_min=low, clamp_max=high)
    return _replace(graph, {source.name: fused, node.name: None}, {node.name: node.inputs[0]})


def _tighter(choose: Callable[[float, float], float], a: float | None, b: float | None) -> float | None:
    if a is None or b is None:
        return a if b is None else b
    return choose(a, b)


def _fuse_residual(graph: Graph, node: Node) -> Graph | None:
    if node.op != "add":
        return None
    plain = {name: undropped(graph, name) for name in node.inputs}
    if len(set(plain.values())) == 1:
        return None
    order = {n.name: i for i, n in enumerate(graph.nodes)}
    for name in sorted(node.inputs, key=lambda name: order[plain[name]], reverse=True):
        layer, dropouts = graph[plain[name]], _dropouts(graph, name)
        fits = is_layer(layer) and len(layer.inputs) == 1 and not layer.clamps
        fits &= all(graph[other].shape == node.shape for other in node.inputs)  # nothing is broadcast
        if fits and all(_only_reader(graph, n) for n in (layer.name, *(d.name for d in dropouts))):
            residual = next(other for other in node.inputs if other != name)
            attrs = {**layer.attrs, "dropout": dropouts} if dropouts else layer.attrs
            fused = _bounded(replace(layer, inputs=(layer.inputs[0], residual), attrs=attrs), node)
            # The fused node stands where the sum stood: there both of its inputs are known.
            gone = dict.fromkeys((layer.name, *(d.name for d in dropouts)))
            return _replace(graph, {**gone, node.name: fused}, {node.name: layer.name})
    return None


def _dropouts(graph: Graph, name: str) -> tuple[Node, ...]:
    """The dropout between a value and what it is without, the first that acts first."""
    found: tuple[Node, ...] = ()
    while graph[name].op == "dropout":
        found = (graph[name], *found)
        name = graph[name].inputs[0]
    return found


def _fuse_factor(graph: Graph, node: Node) -> Graph | None:
    if node.op != "table":
        return None
    source, (step, *others) = graph[node.inputs[0]], node.attrs["steps"]
    if source.op not in ("multiply", "matmul") or not _only_reader(graph, source.name) or source.clamps:
        return None
    if others or step[0] != "affine" or step[1] <= 0.0 or step[2] != 0.0:
        return None
    scale = source.attrs["scale"] * step[1]
    fused = _bounded(replace(source, attrs={**source.attrs, "scale": scale}), node)
    return _replace(graph, {source.name: fused, node.name: None}, {node.name: source.name})


def _fuse_gate(graph: Graph, node: Node) -> Graph | None:
    if node.op != "multiply":
        return None
    for x, name in (node.inputs, node.inputs[::-1]):
        gate = graph[name]
        if gate.op == "table" and gate.inputs == (x,) and _only_reader(graph, name) and x != graph.output:
            steps: Steps = (("times", _steps(gate)),)
            if node.attrs["scale"] != 1.0:
                steps += (("affine", node.attrs["scale"], 0.0),)
            fused = replace(node, op="table", inputs=(x,), attrs={"steps": steps})
            return _replace(graph, {name: None, node.name: fused}, {})
    return None


def _fuse_tables(graph: Graph, node: Node) -> Graph | None:
    if node.op != "table":
        return None
    source = graph[node.inputs[0]]
    if source.op not in ("table", "clamp") or not _only_reader(graph, source.name):
        return None
    attrs = {**node.attrs, "steps": _steps(source) + node.attrs["steps"]}
    fused = replace(node, inputs=source.inputs, attrs=attrs)
    return _replace(graph, {source.name: None, node.name: fused}, {})


def _steps(node: Node) -> Steps:
    """The functions of a table or clamp, its bounds the last of them."""
    steps: Steps = node.attrs.get("steps", ())
    if node.clamps:
        steps += (("clamp", node.clamp_min, node.clamp_max),)
    return steps


def _bounded(node: Node, by: Node) -> Node:
    """The node with the other's clamp."""
    return replace(node, clamp_min=by.clamp_min, clamp_max=by.clamp_max)


def _merge_slices(graph: Graph, node: Node) -> Graph | None:
    if node.op != "slice" or graph[node.inputs[0]].op != "slice" or not _only_reader(graph, node.inputs[0]):
        return None
    inner = graph[node.inputs[0]]
    attrs: dict[str, tuple[int, ...]] = {"starts": (), "ends": (), "steps": ()}
    for axis, size in enumerate(graph[inner.inputs[0]].shape):
        rows = range(size)[_axis_slice(inner, axis)][_axis_slice(node, axis)]
        attrs["starts"] += (rows.start,)
        attrs["ends"] += (rows.stop,)
        attrs["steps"] += (rows.step,)
    merged = replace(node, inputs=inner.inputs, attrs=attrs)
    return _replace(graph, {inner.name: None, node.name: merged}, {})


def _axis_slice(node: Node, axis: int) -> slice:
    return slice(node.attrs["starts"][axis], node.attrs["ends"][axis], node.attrs["steps"][axis])
