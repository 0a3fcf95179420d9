"""BatchNorm folding: ``γ (conv(x, w) + b − μ)/√(σ²+ε) + β = conv(x, w·g) + (b − μ)·g + β``, g = γ/√(σ²+ε).

(Jacob et al. 2018, eq. 14.) It goes in two steps. *Attaching* hands a BatchNorm's parameters to the layer
before it, as roles ``bn_weight``, ``bn_bias``, ``bn_mean`` and ``bn_var``, and removes its node: training
goes on from there. *Folding* multiplies them in. A BatchNorm that follows no layer of its own is attached to
a depthwise 1×1 convolution with weight 1. Computed in float64, stored as float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer

_ATTACHED = {"weight": "bn_weight", "bias": "bn_bias", "running_mean": "bn_mean", "running_var": "bn_var"}
"""A BatchNorm node's roles, and what they are called at the layer."""


def fold_batch_norm(graph: Graph) -> Graph:
    """The same network in evaluation mode without BatchNorm, as ``batch_norm`` nodes or attached.

    The parameters of each layer are stored under its own name (``layer1.0.conv1.weight``), so that a
    tensor shared by two layers becomes two, which may be quantized apart.

    Raises:
        PipelineError: a BatchNorm over a vector that follows no linear layer.
    """
    graph = attach_batch_norm(graph)
    params = dict(graph.params)
    return replace(graph, nodes=tuple(_fold(node, params) for node in graph.nodes), params=params)


def attach_batch_norm(graph: Graph) -> Graph:
    """The same network with each BatchNorm attached to its layer: nodes and names as after folding.

    Raises:
        PipelineError: a BatchNorm over a vector that follows no linear layer.
    """
    nodes: dict[str, Node] = {}
    params: dict[str, Tensor] = {}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        if node.op != "batch_norm":
            nodes[node.name] = _own_params(graph, node, params)
            continue
        layer = nodes[node.inputs[0]]
        if is_layer(layer) and len(graph.users(_original(renamed, layer.name))) == 1:
            layer = _fold(layer, params)  # where it has had a BatchNorm before
            renamed[node.name] = layer.name
        else:
            layer = _depthwise(node, params)
        nodes[layer.name] = _attach(graph, node, layer, params)
    output = renamed.get(graph.output, graph.output)
    return Graph(nodes=tuple(nodes.values()), params=params, output=output)


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


def _fold(node: Node, params: dict[str, Tensor]) -> Node:
    if "bn_mean" not in node.params:
        return node
    weight, bias = folded_layer(node, params, gain_of(node, params))
    for role in _ATTACHED.values():
        params.pop(node.params.get(role, ""), None)
    keys = {"weight": f"{node.name}.weight", "bias": f"{node.name}.bias"}
    params |= {keys["weight"]: weight, keys["bias"]: bias}
    attrs = {name: value for name, value in node.attrs.items() if name != "bn_eps"}
    return replace(node, attrs=attrs, params=keys)


def _original(renamed: dict[str, str], name: str) -> str:
    """The value's name in the graph before folding: a layer folded twice is read through its BatchNorm."""
    before = [old for old, new in renamed.items() if new == name]
    return before[-1] if before else name


def _own_params(graph: Graph, node: Node, params: dict[str, Tensor]) -> Node:
    keys = {role: f"{node.name}.{role}" for role in node.params}
    params.update({keys[role]: graph.params[key].clone() for role, key in node.params.items()})
    return replace(node, params=keys)


def _attach(graph: Graph, norm: Node, layer: Node, params: dict[str, Tensor]) -> Node:
    keys = {
        attached: f"{layer.name}.{attached}" for role, attached in _ATTACHED.items() if role in norm.params
    }
    tensors = {_ATTACHED[role]: graph.params[key] for role, key in norm.params.items()}
    params.update({keys[role]: tensor.clone() for role, tensor in tensors.items()})
    return replace(layer, attrs={**layer.attrs, "bn_eps": norm.attrs["eps"]}, params={**layer.params, **keys})


def _depthwise(node: Node, params: dict[str, Tensor]) -> Node:
    if len(node.shape) != 3:
        raise PipelineError(
            f"BatchNorm '{node.name}' normalizes a vector {node.shape} and follows no linear layer of "
            "its own; place it directly after a linear layer."
        )
    channels = node.shape[0]
    params[f"{node.name}.weight"] = torch.ones(channels, 1, 1, 1)
    ones, zeros = (1, 1), (0, 0)
    attrs = {"stride": ones, "padding": zeros, "dilation": ones, "groups": channels}
    return replace(node, op="conv2d", attrs=attrs, params={"weight": f"{node.name}.weight"})
