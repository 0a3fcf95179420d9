"""BatchNorm folding: ``γ (conv(x, w) + b − μ)/√(σ²+ε) + β = conv(x, w·g) + (b − μ)·g + β``, g = γ/√(σ²+ε).

(Jacob et al. 2018, eq. 14.) A BatchNorm that follows no layer of its own becomes a depthwise 1×1
convolution with weight g and bias β − μ·g. Computed in float64, stored as float32.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from stages.graph.ir import Graph, Node


def fold_batch_norm(graph: Graph) -> Graph:
    """The same network in evaluation mode without ``batch_norm`` nodes.

    The parameters of each layer are stored under its own name (``layer1.0.conv1.weight``), so that a
    tensor shared by two layers becomes two, which may be quantized apart.

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
        source = nodes[node.inputs[0]]
        gain, shift = _affine(graph, node)
        if source.op in ("conv2d", "linear") and len(graph.users(_original(renamed, source.name))) == 1:
            _scale_layer(source, params, gain, shift)
            nodes[source.name] = replace(source, params=_keys(source.name))
            renamed[node.name] = source.name
        else:
            nodes[node.name] = _depthwise(node, params, gain, shift)
    output = renamed.get(graph.output, graph.output)
    return Graph(nodes=tuple(nodes.values()), params=params, output=output)


def _original(renamed: dict[str, str], name: str) -> str:
    """The value's name in the graph before folding: a layer folded twice is read through its BatchNorm."""
    before = [old for old, new in renamed.items() if new == name]
    return before[-1] if before else name


def _keys(name: str) -> dict[str, str]:
    return {"weight": f"{name}.weight", "bias": f"{name}.bias"}


def _own_params(graph: Graph, node: Node, params: dict[str, Tensor]) -> Node:
    keys = {role: f"{node.name}.{role}" for role in node.params}
    params.update({keys[role]: graph.params[key].clone() for role, key in node.params.items()})
    return replace(node, params=keys)


def _affine(graph: Graph, node: Node) -> tuple[Tensor, Tensor]:
    """The gain g and shift β − μ·g of a BatchNorm, float64 (C,)."""
    mean = graph.params[node.params["running_mean"]].double()
    variance = graph.params[node.params["running_var"]].double()
    gamma, beta = graph.param(node, "weight"), graph.param(node, "bias")
    gain = torch.rsqrt(variance + node.attrs["eps"])
    gain = gain if gamma is None else gain * gamma.double()
    shift = -mean * gain
    return gain, shift if beta is None else shift + beta.double()


def _scale_layer(layer: Node, params: dict[str, Tensor], gain: Tensor, shift: Tensor) -> None:
    keys = _keys(layer.name)
    weight = params[keys["weight"]].double()
    bias = params.get(keys["bias"])
    folded = shift if bias is None else bias.double() * gain + shift
    params[keys["weight"]] = (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).float()
    params[keys["bias"]] = folded.float()


def _depthwise(node: Node, params: dict[str, Tensor], gain: Tensor, shift: Tensor) -> Node:
    if len(node.shape) != 3:
        raise PipelineError(
            f"BatchNorm '{node.name}' normalizes a vector {node.shape} and follows no linear layer of "
            "its own; place it directly after a linear layer."
        )
    keys = _keys(node.name)
    params[keys["weight"]] = gain.float().reshape(-1, 1, 1, 1)
    params[keys["bias"]] = shift.float()
    ones, zeros = (1, 1), (0, 0)
    attrs = {"stride": ones, "padding": zeros, "dilation": ones, "groups": gain.numel()}
    return replace(node, op="conv2d", attrs=attrs, params=keys)
