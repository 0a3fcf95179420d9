"""Masks become a second input of the softmax that reads them: see `stages.graph.operators.mask`.

Three forms are read as masks where a softmax reads them, with reshapes in between or none:

======================================  ======================================================================
mask(x, keep)                           as it is
add(x, constant)                        entries of the constant up to −50, beside which nothing counts, are
                                        left out; the others are added still, where any is not 0
add(x, table(z))                        whose table ends in a factor of at least 10^4: ``(1 − m) · −10^38``;
                                        what is above −50 is kept
======================================  ======================================================================
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stages.graph.ir import Graph, Node

EXCLUDED = -50.0
"""What is added to the scores of entries that count no more: e^-50 of the largest is below any level."""

LEAST_FACTOR = 1e4
"""The least magnitude of the last factor of a computed mask."""


def keeping(mask: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """A constant mask, of truth values or to be added, as what it keeps, 0 or 1, and what it adds there.

    None where it keeps all, and where it adds nothing.
    """
    if mask.dtype == torch.bool:
        return (None if mask.all() else mask.float()), None
    keep = mask > EXCLUDED
    bias = torch.where(keep, mask, 0.0).float()
    return (None if keep.all() else keep.float()), (bias if bias.any() else None)


def fuse_masks(graph: Graph) -> Graph:
    """The same softmaxes, without −∞."""
    changed = True
    while changed:
        changed = False
        for softmax in (node for node in graph.nodes if node.op == "softmax" and len(node.inputs) == 1):
            if (result := _fused(graph, softmax)) is not None:
                graph, changed = result, True
                break
    return graph


def _fused(graph: Graph, softmax: Node) -> Graph | None:
    """One mask fewer before a softmax; None where there is none that nothing else reads."""
    source = graph[softmax.inputs[0]]
    reshaped = source.op == "reshape"
    while source.op == "reshape" and _only_reader(graph, source.name):
        source = graph[source.inputs[0]]
    if not _only_reader(graph, source.name) or source.clamps or len(source.inputs) != 2:
        return None
    if source.op == "mask":
        return _masked(graph, softmax, source, *source.inputs, reshaped)
    if source.op == "add":
        for x, other in (source.inputs, source.inputs[::-1]):
            if graph[x].shape != source.shape:
                continue
            if graph[other].op == "constant":
                return _added(graph, softmax, source, x, graph[other])
            if graph[other].op == "table" and _is_mask(graph[other]) and not reshaped:
                steps = (*graph[other].attrs["steps"], ("compare", "gt", EXCLUDED))
                keep = replace(graph[other], name=f"{other}.keep", attrs={"steps": steps})
                return _rewired(_with(graph, keep, other), softmax, source, x, keep.name)
    return None


def _only_reader(graph: Graph, name: str) -> bool:
    return len(graph.users(name)) == 1 and graph.output != name


def _is_mask(table: Node) -> bool:
    name, *arguments = table.attrs["steps"][-1]
    return name == "affine" and abs(arguments[0]) >= LEAST_FACTOR and not table.clamps


def _masked(graph: Graph, softmax: Node, source: Node, x: str, keep: str, reshaped: bool) -> Graph | None:
    if reshaped and graph[keep].op != "constant":
        return None
    if reshaped:
        tensor = graph.params[graph[keep].params["value"]]
        return _excluding(graph, softmax, source, x, graph[keep], tensor)
    return _rewired(graph, softmax, source, x, keep)


def _added(graph: Graph, softmax: Node, source: Node, x: str, constant: Node) -> Graph | None:
    """What a constant adds to scores, and what it leaves out."""
    keep, bias = keeping(graph.params[constant.params["value"]])
    if keep is None and bias is not None:
        return None  # a bias of positions
    if bias is not None:
        graph, name = _constant(graph, constant, "added", bias)
        nodes = tuple(replace(n, inputs=(x, name)) if n.name == source.name else n for n in graph.nodes)
        graph, x = replace(graph, nodes=nodes), source.name
    if keep is None:
        return _rewired(graph, softmax, source, x, None)
    return _excluding(graph, softmax, source, x, constant, keep)


def _excluding(graph: Graph, softmax: Node, source: Node, x: str, constant: Node, keep: Tensor) -> Graph:
    """A softmax that leaves out what a constant, whose shape broadcasts to the source's, leaves out."""
    keep = keep.expand(source.shape).reshape(softmax.shape)
    for axis in range(keep.ndim):
        if (keep == keep.narrow(axis, 0, 1)).all():
            keep = keep.narrow(axis, 0, 1)
    graph, name = _constant(graph, constant, "keep", keep)
    return _rewired(graph, softmax, source, x, name)


def _constant(graph: Graph, like: Node, kind: str, tensor: Tensor) -> tuple[Graph, str]:
    """Another constant, beside that which it comes from: one, however many softmaxes read it."""
    key, name, count = f"{like.params['value']}:{kind}", f"{like.name}.{kind}", 1
    while key in graph.params and not _same(graph.params[key], tensor):
        count += 1
        key, name = f"{like.params['value']}:{kind}{count}", f"{like.name}.{kind}{count}"
    node = replace(like, name=name, params={"value": key}, shape=tuple(tensor.shape))
    graph = replace(graph, params={**graph.params, key: tensor.contiguous()}, frozen=graph.frozen | {key})
    return _with(graph, node, like.name), name


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _with(graph: Graph, node: Node, behind: str) -> Graph:
    """The graph with one more node, unless it has it."""
    if any(own.name == node.name for own in graph.nodes):
        return graph
    at = next(i for i, own in enumerate(graph.nodes) if own.name == behind) + 1
    return replace(graph, nodes=(*graph.nodes[:at], node, *graph.nodes[at:]))


def _rewired(graph: Graph, softmax: Node, source: Node, x: str, keep: str | None) -> Graph:
    """The softmax over `x` instead of `source`, with what it keeps; what nothing reads any more goes."""
    nodes = []
    for node in graph.nodes:
        if x != source.name:
            node = replace(node, inputs=tuple(x if name == source.name else name for name in node.inputs))
        if node.name == softmax.name and keep is not None:
            node = replace(node, inputs=(node.inputs[0], keep))
        nodes.append(node)
    needed = {graph.output}
    for node in reversed(nodes):
        if node.name in needed:
            needed |= set(node.inputs)
    used = tuple(node for node in nodes if node.name in needed or node.op == "input")
    return replace(graph, nodes=used)
