"""BatchNorm folding: ``γ (conv(x, w) + b − μ)/√(σ²+ε) + β = conv(x, w·g) + (b − μ)·g + β``, g = γ/√(σ²+ε).

(Jacob et al. 2018, eq. 14.) It goes in two steps. *Attaching* hands a BatchNorm's parameters to the layer
before it, as roles ``bn_weight``, ``bn_bias``, ``bn_mean`` and ``bn_var``, and removes its node: training
goes on from there. *Folding* multiplies them in. A BatchNorm over images that follows no layer of its own is
attached to a depthwise 1×1 convolution with weight 1, one over vectors scales channels
(`stages.graph.scales`). Computed in float64, stored as float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stages.graph.dropout import behind, only_read_by
from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer
from stages.graph.patterns import recognize_norms
from stages.graph.scales import fold_scales

_ATTACHED = {"weight": "bn_weight", "bias": "bn_bias", "running_mean": "bn_mean", "running_var": "bn_var"}
"""A BatchNorm node's roles, and what they are called at the layer."""

_MADE_FROM: Mapping[str, tuple[str, ...]] = {
    "weight": ("weight", "bn_weight", "bn_var"),
    "bias": ("bias", "bn_weight", "bn_bias", "bn_mean", "bn_var"),
}
"""What a folded parameter depends on."""

_TRAINED: Mapping[str, tuple[str, ...]] = {"weight": ("weight", "bn_weight"), "bias": ("bias", "bn_bias")}
"""What a folded parameter takes its place in training of: it rests where all of them rest."""


def fold_batch_norm(graph: Graph) -> Graph:
    """The same network in evaluation mode without BatchNorm, as ``batch_norm`` nodes or attached.

    Parameters are stored under the names of layers (``layer1.0.conv1.weight``). One that layers share is
    stored once, where the same BatchNorm, or none, is folded into it.
    """
    graph = attach_batch_norm(graph)
    change = _Change(params=dict(graph.params), frozen=set(graph.frozen), pruned=set(graph.pruned))
    nodes = tuple(_fold(node, change) for node in graph.nodes)
    return _named(change.of(graph, nodes))


def attach_batch_norm(graph: Graph) -> Graph:
    """The same network with each BatchNorm attached to its layer: nodes and names as after folding.

    Dropout between a layer and its BatchNorm comes to stand behind it, and acts on the normalized values.
    """
    graph = _dropout_behind(fold_scales(recognize_norms(graph)))
    nodes: dict[str, Node] = {}
    change = _Change(params=dict(graph.params), frozen=set(graph.frozen), pruned=set(graph.pruned))
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        if node.op != "batch_norm":
            nodes[node.name] = node
            continue
        layer = nodes[node.inputs[0]]
        if is_layer(layer) and len(graph.users(_original(renamed, layer.name))) == 1:
            layer = _fold(layer, change)  # where it has had a BatchNorm before
            renamed[node.name] = layer.name
        else:
            layer = _depthwise(node, change)
        nodes[layer.name] = _attach(node, layer)
    return _named(
        replace(change.of(graph, tuple(nodes.values())), output=renamed.get(graph.output, graph.output))
    )


def gain_of(node: Node, params: Mapping[str, Tensor], variance: Tensor | None = None) -> Tensor:
    """g of the BatchNorm attached to a layer, float64 (C,); over another variance where one is given."""
    variance = params[node.params["bn_var"]] if variance is None else variance
    gain = torch.rsqrt(variance.double() + node.attrs["bn_eps"])
    return gain * params[node.params["bn_weight"]].double() if "bn_weight" in node.params else gain


def folded_layer(
    node: Node, params: Mapping[str, Tensor], gain: Tensor, mean: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Weight ``w·g`` and bias ``(b − μ)·g + β`` of a layer with BatchNorm attached, float32; differentiable.

    Args:
        node: the layer.
        params: of the graph.
        gain: see `gain_of`.
        mean: μ; None for the moving one.
    """
    weight = params[node.params["weight"]].double()
    mean = params[node.params["bn_mean"]] if mean is None else mean
    shift = -mean.double() * gain
    if "bn_bias" in node.params:
        shift = shift + params[node.params["bn_bias"]].double()
    if "bias" in node.params:
        shift = params[node.params["bias"]].double() * gain + shift
    return (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).float(), shift.float()


@dataclass(frozen=True, kw_only=True)
class _Change:
    """Parameters as they come to be, and which of them rest or are pruned."""

    params: dict[str, Tensor]
    frozen: set[str]
    pruned: set[str]

    def of(self, graph: Graph, nodes: tuple[Node, ...]) -> Graph:
        """The graph with other nodes, over these parameters."""
        rest, pruned = frozenset(self.frozen), frozenset(self.pruned)
        return replace(graph, nodes=nodes, params=self.params, frozen=rest, pruned=pruned)


def _fold(node: Node, change: _Change) -> Node:
    """The layer without its BatchNorm; adds what it is folded to, under keys that say what it is made of."""
    if "bn_mean" not in node.params:
        return node
    weight, bias = folded_layer(node, change.params, gain_of(node, change.params))
    attrs = {name: value for name, value in node.attrs.items() if not name.startswith("bn_")}
    made_from = {
        role: repr((role, node.attrs["bn_eps"], *(node.params.get(part) for part in parts)))
        for role, parts in _MADE_FROM.items()
    }
    change.params.update({made_from["weight"]: weight, made_from["bias"]: bias})
    for role, parts in _TRAINED.items():
        if all(node.params[part] in change.frozen for part in parts if part in node.params):
            change.frozen.add(made_from[role])
    if node.params["weight"] in change.pruned:  # zeros times the gain
        change.pruned.add(made_from["weight"])
    return replace(node, attrs=attrs, params=made_from)


def _named(graph: Graph) -> Graph:
    """The graph with each parameter under the name of a node that uses it, and no others.

    Of several nodes it is the one with the shortest name, whatever their order.
    """
    uses: dict[str, list[tuple[str, str]]] = {}
    for node in graph.nodes:
        for role, key in node.params.items():
            uses.setdefault(key, []).append((node.name, role))
    names = {key: _name_among(users) for key, users in uses.items()}
    nodes = (
        replace(node, params={role: names[key] for role, key in node.params.items()}) for node in graph.nodes
    )
    return replace(
        graph,
        nodes=tuple(nodes),
        params={names[key]: tensor for key, tensor in graph.params.items() if key in names},
        frozen=frozenset(names[key] for key in graph.frozen if key in names),
        pruned=frozenset(names[key] for key in graph.pruned if key in names),
    )


def _name_among(uses: list[tuple[str, str]]) -> str:
    name, role = min(uses, key=lambda use: (len(use[0]), *use))
    return f"{name}.{role}"


def _dropout_behind(graph: Graph) -> Graph:
    """The graph in which no BatchNorm alone reads dropout: it is dropped behind it."""
    for norm in (node for node in graph.nodes if node.op == "batch_norm"):
        while (dropout := graph[graph[norm.name].inputs[0]]).op == "dropout":
            if not only_read_by(graph, dropout.name, graph[norm.name]):
                break
            graph = behind(graph, dropout, graph[norm.name])
    return graph


def _original(renamed: dict[str, str], name: str) -> str:
    """The value's name in the graph before folding: a layer folded twice is read through its BatchNorm."""
    before = [old for old, new in renamed.items() if new == name]
    return before[-1] if before else name


def _attach(norm: Node, layer: Node) -> Node:
    keys = {_ATTACHED[role]: key for role, key in norm.params.items()}
    attrs = {f"bn_{name}": value for name, value in norm.attrs.items()}
    return replace(layer, attrs={**layer.attrs, **attrs}, params={**layer.params, **keys})


def _depthwise(node: Node, change: _Change) -> Node:
    channels = node.shape[0]
    key = repr(("ones", node.name))
    change.params[key] = torch.ones(channels, 1, 1, 1)
    change.frozen.add(key)  # the module has no such weight to train
    ones, zeros = (1, 1), (0, 0)
    attrs = {"stride": ones, "padding": zeros, "dilation": ones, "groups": channels}
    return replace(node, op="conv2d", attrs=attrs, params={"weight": key})
