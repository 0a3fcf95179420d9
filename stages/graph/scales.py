"""Factors and offsets of channels, ``f_c · x + o_c``, folded into a neighbour where that is exact.

A ``scale_channels`` node goes, in this order of preference, into

1. another one, or a table that multiplies and adds numbers, beside it;
2. the layer or normalization before it: ``f · (w x + b) + o``, and so for γ and β;
3. the layers after it: ``w · (f x + o) + b``. A convolution that pads with zeros takes no offset, since it
   would have to pad with o; and input channels whose factors lie further apart than `SPREAD` stay as they
   are, because weights that share a scale would lose bits to them.

Between the two there may be operators that move values and leave channels whole. BatchNorm over vectors that
follows no layer becomes such a node first, its statistics at rest. What stays is one table a channel, and
marked (attribute ``stays``): nothing that training does to its numbers changes the nodes of the network.
Computed in float64, stored as float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stages.graph.dropout import undropped
from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer

SPREAD = 4.0
"""Two bits: how many times as large as the least a factor of a layer's input channels may be."""

_AFFINE = {
    "batch_norm": ("weight", "bias"),
    "layer_norm": ("gamma", "beta"),
    "group_norm": ("gamma", "beta"),
    "rms_norm": ("gamma", ""),
    "normalize": ("gamma", ""),
}
"""Factor and offset of normalizations, by role; empty where there is no offset."""


@dataclass
class _Change:
    """What a rewrite does: nodes exchanged (None: removed), values renamed, parameters added."""

    graph: Graph
    nodes: dict[str, Node | None] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    params: dict[str, Tensor] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    pruned: set[str] = field(default_factory=set)

    def add(self, tensor: Tensor, role: str, *made_from: str | None) -> str:
        """A parameter under a key that says what it is made of; at rest where all of that is."""
        keys = tuple(key for key in made_from if key is not None)
        name = repr((role, *keys))
        count = 1
        while name in self.graph.params and not torch.equal(self.graph.params[name], tensor.float()):
            count, name = count + 1, repr((role, *keys, count))
        self.params[name] = tensor.float()
        if all(key in self.graph.frozen for key in keys):
            self.frozen.add(name)
        if role == "weight" and any(key in self.graph.pruned for key in keys):  # zeros times a factor
            self.pruned.add(name)
        return name

    def result(self) -> Graph:
        """The graph rewritten."""
        nodes = (self.nodes.get(node.name, node) for node in self.graph.nodes)
        kept = (
            replace(node, inputs=tuple(self.renamed.get(name, name) for name in node.inputs))
            for node in nodes
            if node is not None
        )
        return replace(
            self.graph,
            nodes=tuple(kept),
            params={**self.graph.params, **self.params},
            output=self.renamed.get(self.graph.output, self.graph.output),
            frozen=self.graph.frozen | self.frozen,
            pruned=self.graph.pruned | self.pruned,
        )


def fold_scales(graph: Graph) -> Graph:
    """The same network in evaluation mode with as few ``scale_channels`` as can be."""
    for node in graph.nodes:
        if node.op == "batch_norm" and len(node.shape) != 3 and not _follows_layer(graph, node):
            graph = _resting(graph, node)
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            if node.op != "scale_channels" or node.clamps or "stays" in node.attrs:
                continue
            if result := _merged(graph, node) or _into_source(graph, node) or _into_readers(graph, node):
                graph, changed = result, True
                break
    nodes = (
        replace(node, attrs={**node.attrs, "stays": True}) if node.op == "scale_channels" else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _follows_layer(graph: Graph, norm: Node) -> bool:
    source = graph[undropped(graph, norm.inputs[0])]
    if not _only_reader(graph, norm.inputs[0]) or not _only_reader(graph, source.name):
        return False
    return is_layer(source) or (source.op == "batch_norm" and _follows_layer(graph, source))


def _only_reader(graph: Graph, name: str) -> bool:
    return len(graph.users(name)) == 1 and graph.output != name


def _resting(graph: Graph, norm: Node) -> Graph:
    """BatchNorm by its moving statistics as a factor and an offset."""
    p: Mapping[str, Tensor] = {role: tensor.double() for role, tensor in graph.roles(norm).items()}
    factor = torch.rsqrt(p["running_var"] + norm.attrs["eps"]) * p.get("weight", 1.0)
    offset = p.get("bias", 0.0) - p["running_mean"] * factor
    change = _Change(graph)
    keys = norm.params
    own = {
        "factor": change.add(factor, "factor", keys.get("weight"), keys["running_var"]),
        "offset": change.add(offset, "offset", keys.get("bias"), keys["running_mean"], *keys.values()),
    }
    change.nodes[norm.name] = replace(norm, op="scale_channels", attrs={"axis": 0}, params=own)
    return change.result()


def _numbers(graph: Graph, node: Node) -> tuple[Tensor, Tensor] | None:
    """Factor and offset of a node that scales, float64: (C,), or () of a table; None for any other."""
    if node.op == "scale_channels" and not node.clamps and "stays" not in node.attrs:
        roles = {role: tensor.double() for role, tensor in graph.roles(node).items()}
        one = next(iter(roles.values()))
        return roles.get("factor", torch.ones_like(one)), roles.get("offset", torch.zeros_like(one))
    steps = node.attrs.get("steps", ())
    if node.op == "table" and not node.clamps and len(steps) == 1 and steps[0][0] == "affine":
        return torch.tensor(steps[0][1]).double(), torch.tensor(steps[0][2]).double()
    return None


def _merged(graph: Graph, node: Node) -> Graph | None:
    """With the node that it reads, or with a table that alone reads it."""
    source = graph[node.inputs[0]]
    pairs = [(source, node)] if _only_reader(graph, source.name) else []
    if _only_reader(graph, node.name) and (reader := graph.users(node.name)[0]).op == "table":
        pairs.append((node, reader))
    for first, second in pairs:
        inner, outer = _numbers(graph, first), _numbers(graph, second)
        if inner is None or outer is None:
            continue
        axes = {own.attrs["axis"] for own in (first, second) if "axis" in own.attrs}
        if len(axes) > 1:
            continue
        change = _Change(graph)
        keys = (*first.params.values(), *second.params.values())
        own = {"factor": change.add(outer[0] * inner[0], "factor", *keys)}
        offset = outer[0] * inner[1] + outer[1]
        if offset.any():
            own["offset"] = change.add(offset.expand_as(outer[0] * inner[0]), "offset", *keys)
        change.nodes[first.name] = None
        change.nodes[second.name] = replace(
            second, op="scale_channels", inputs=first.inputs, attrs={"axis": axes.pop()}, params=own
        )
        return change.result()
    return None


def _channel_axis(node: Node) -> int:
    """The dimension of a sample along which a layer's or a normalization's parameters lie."""
    if node.op in ("rms_norm", "normalize"):
        return int(node.attrs["axis"])
    return 0 if node.op in ("conv2d", "batch_norm", "group_norm") else len(node.shape) - 1


def _before(graph: Graph, mover: Node, axis: int) -> int | None:
    """The dimension that was `axis` before a node moved it; None where channels do not stay whole."""
    if mover.op == "permute":
        return int(mover.attrs["axes"][axis])
    if mover.op != "reshape":
        return None
    before, after = graph[mover.inputs[0]].shape, mover.shape
    same = [
        k
        for k, size in enumerate(before)
        if size == after[axis] and math.prod(before[:k]) == math.prod(after[:axis])
    ]
    return same[0] if same else None


def _into_source(graph: Graph, node: Node) -> Graph | None:
    axis: int | None = node.attrs["axis"]
    source = graph[node.inputs[0]]
    while axis is not None and source.op in ("permute", "reshape") and _only_reader(graph, source.name):
        axis, source = _before(graph, source, axis), graph[source.inputs[0]]
    numbers = _numbers(graph, node)
    takes = source.op in _AFFINE or (is_layer(source) and len(source.inputs) == 1)
    if axis is None or numbers is None or not takes or source.clamps or "bn_mean" in source.params:
        return None
    if axis != _channel_axis(source) or not _only_reader(graph, source.name):
        return None
    factor, offset = numbers
    change, own = _Change(graph), dict(source.params)
    weight_role, bias_role = _AFFINE.get(source.op, ("weight", "bias"))
    weight, bias = graph.param(source, weight_role), graph.param(source, bias_role)
    keys = node.params
    scaled = factor if weight is None else weight.double() * factor.reshape(-1, *[1] * (weight.ndim - 1))
    if "factor" in keys:
        own[weight_role] = change.add(scaled, weight_role, source.params.get(weight_role), keys["factor"])
    if not bias_role and offset.any():
        return None
    if bias is not None or offset.any():
        shifted = offset if bias is None else bias.double() * factor + offset
        own[bias_role] = change.add(shifted, bias_role, source.params.get(bias_role), *keys.values())
    change.nodes |= {source.name: replace(source, params=own), node.name: None}
    change.renamed[node.name] = node.inputs[0]
    return change.result()


def _into_readers(graph: Graph, node: Node) -> Graph | None:
    numbers = _numbers(graph, node)
    if numbers is None or graph.output == node.name:
        return None
    factor, offset = numbers
    sizes = factor.abs()[factor != 0.0]
    if not len(sizes) or float(sizes.max() / sizes.min()) > SPREAD:
        return None
    change = _Change(graph)
    for reader in graph.users(node.name):
        axis: int | None = node.attrs["axis"]
        while reader.op in ("permute", "reshape") and _only_reader(graph, reader.name) and axis is not None:
            after = [k for k in range(len(reader.shape)) if _before(graph, reader, k) == axis]
            axis = after[0] if after else None
            reader = graph.users(reader.name)[0]
        reads = graph[reader.inputs[0]].shape
        if not is_layer(reader) or reader.inputs[1:] or "bn_mean" in reader.params or axis is None:
            return None
        if axis != (0 if reader.op == "conv2d" else len(reads) - 1):
            return None
        if offset.any() and any(reader.attrs.get("padding", ())):
            return None
        change.nodes[reader.name] = _absorbed(change, reader, factor, offset, tuple(node.params.values()))
    change.nodes[node.name] = None
    change.renamed[node.name] = node.inputs[0]
    return change.result()


def _absorbed(change: _Change, layer: Node, factor: Tensor, offset: Tensor, keys: tuple[str, ...]) -> Node:
    """The layer over what the node reads."""
    weight, bias = change.graph.params[layer.params["weight"]].double(), change.graph.param(layer, "bias")
    groups = layer.attrs.get("groups", 1)

    def by_weight(values: Tensor) -> Tensor:
        rows = values.reshape(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
        return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))

    own = {**layer.params}
    own["weight"] = change.add(weight * by_weight(factor), "weight", layer.params["weight"], *keys)
    if offset.any():
        shift = (weight * by_weight(offset)).flatten(1).sum(dim=1)
        shift = shift if bias is None else shift + bias.double()
        own["bias"] = change.add(shift, "bias", layer.params.get("bias"), layer.params["weight"], *keys)
    return replace(layer, params=own)
