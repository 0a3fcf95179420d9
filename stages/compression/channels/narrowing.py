"""The smaller dense graph: a network without the channels of the units that are gone.

It computes what the network computes whose sources are multiplied by masks (`masks_of`). Each parameter loses
the rows, and each reader the columns, of channels that are gone; where these are a constant other than 0, a
layer's bias takes in what they add: ``b + Σ_gone w · rest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import PipelineError
from stages.compression.channels.coupling import Coupling
from stages.graph.execute import compute, execute
from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer
from stages.graph.tokens import token_counts

TOLERANCE = 1e-3
"""The most that the smaller network may differ from the masked one, relative to the largest output."""

_ROWS = {
    "weight": 0,
    "bias": 0,
    **dict.fromkeys(("bn_weight", "bn_bias", "bn_mean", "bn_var"), 0),
    **dict.fromkeys(("gamma", "beta", "slope", "factor", "offset"), 0),
    "table": 1,
}
"""Along which dimension of a parameter, by its role, the channels of its node's value lie."""


def masks_of(graph: Graph, coupling: Coupling, gone: frozenset[int]) -> dict[str, Tensor]:
    """By name of a source that loses channels: 1 where they stay and 0 else, float32, (n, 1, …) or (n,).

    Multiplied with the node's value (N, *shape) they leave what `narrowed` computes.
    """
    masks: dict[str, Tensor] = {}
    for name in coupling.sources:
        if (keep := coupling.keep(name, gone)) is not None:
            after = len(graph[name].shape) - 1 - coupling.channels[name].axis
            masks[name] = torch.from_numpy(keep).float().reshape(-1, *[1] * after)
    return masks


def masked_output(graph: Graph, masks: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What the network with masked sources computes of `x`, float32 (N, *input shape)."""

    def step(node: Node, *operands: Tensor) -> Tensor:
        value = compute(graph, node, *operands)
        return value if node.name not in masks else value * masks[node.name].to(value.device)

    return execute(graph, x, step=step)


def narrowed(graph: Graph, coupling: Coupling, gone: frozenset[int]) -> Graph:
    """The network without the units `gone`, which are free and leave each value at least one channel.

    Args:
        graph: the network that was coupled; names of nodes and parameters stay.
        coupling: which channels go together.
        gone: units.
    """
    params = dict(graph.params)
    nodes = tuple(_narrowed(node, coupling, gone, params) for node in graph.nodes)
    return replace(graph, nodes=nodes, params=params)


def check_same_function(masked: Graph, small: Graph, masks: Mapping[str, Tensor]) -> None:
    """Raise `PipelineError` unless the smaller network computes what the masked one does, on random input.

    Args:
        masked: the network before, in evaluation, BatchNorm folded.
        small: the smaller one, likewise.
        masks: of the network before.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, *masked.input.shape)
    count = token_counts(masked).get(masked.input.name)
    x = torch.randn(shape, generator=generator)
    if count is not None:
        x = torch.randint(0, count, shape, generator=generator).float()
    with torch.inference_mode():
        expected, found = masked_output(masked, masks, x), execute(small, x)
    error = float((expected - found).abs().max())
    if not error <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise PipelineError(
            f"the network without the channels that were pruned differs by {error:.3g} from the one in which "
            "they are 0. Remedy: compression.narrow.method.stay=[…] names layers that keep their channels; "
            "please report the network"
        )


def _narrowed(node: Node, coupling: Coupling, gone: frozenset[int], params: dict[str, Tensor]) -> Node:
    keep = coupling.keep(node.name, gone)
    read = coupling.keep(node.inputs[0], gone) if node.inputs else None
    if keep is None and read is None:
        return node
    if keep is not None:
        _drop_rows(node, keep, coupling, params)
    if is_layer(node) and read is not None and node.attrs.get("groups", 1) == 1:
        node = _without_columns(node, read, coupling.channels[node.inputs[0]].rest, params)
    channels = coupling.channels.get(node.name)
    if channels is None:
        return node
    keep = np.ones(len(channels.ids), bool) if keep is None else keep
    axis, count = channels.axis, int(keep.sum())
    shape = (*node.shape[:axis], count, *node.shape[axis + 1 :])
    attrs = dict(node.attrs)
    if node.attrs.get("groups", 1) > 1:
        attrs["groups"] = count * node.attrs["groups"] // len(keep)
    elif node.op == "pad":
        before, after = attrs["pads"][axis]
        own = (int(keep[:before].sum()), int(keep[len(keep) - after :].sum()))
        attrs["pads"] = (*attrs["pads"][:axis], own, *attrs["pads"][axis + 1 :])
    elif node.op == "slice":
        start = attrs["starts"][axis]
        first = start if read is None else int(read[:start].sum())
        attrs["starts"] = (*attrs["starts"][:axis], first, *attrs["starts"][axis + 1 :])
        attrs["ends"] = (*attrs["ends"][:axis], first + count, *attrs["ends"][axis + 1 :])
    elif node.op == "take" and attrs["axis"] == axis and read is not None:
        places = np.cumsum(read) - 1
        attrs["indices"] = tuple(int(places[i]) for i in np.array(attrs["indices"])[keep])
    elif node.op == "reshape":
        attrs["shape"] = shape
    return replace(node, attrs=attrs, shape=shape)


def _drop_rows(node: Node, keep: np.ndarray, coupling: Coupling, params: dict[str, Tensor]) -> None:
    """Leave out of the node's parameters the rows of channels that are gone."""
    chosen = torch.from_numpy(np.flatnonzero(keep))
    for role, key in node.params.items():
        axis = coupling.channels[node.name].axis if role == "value" else _ROWS.get(role)
        if axis is not None and params[key].shape[axis] == len(keep):  # one slope is for all channels
            params[key] = params[key].index_select(axis, chosen.to(params[key].device))


def _without_columns(node: Node, read: np.ndarray, rest: np.ndarray, params: dict[str, Tensor]) -> Node:
    """A layer without the channels that it reads no more; its bias, or BatchNorm's mean, has their part."""
    weight = params[node.params["weight"]]
    lost = np.flatnonzero(~read & (rest != 0.0))
    params[node.params["weight"]] = weight[:, torch.from_numpy(np.flatnonzero(read))].contiguous()
    if not len(lost):
        return node
    sums = weight[:, torch.from_numpy(lost)].double().reshape(len(weight), len(lost), -1).sum(-1)
    part = (sums @ torch.from_numpy(rest[lost])).float()
    if "bias" in node.params:
        params[node.params["bias"]] = params[node.params["bias"]] + part
        return node
    if "bn_mean" in node.params:  # the layer gives less by it
        params[node.params["bn_mean"]] = params[node.params["bn_mean"]] - part
        return node
    key = f"{node.name}.bias"
    params[key] = part
    return replace(node, params={**node.params, "bias": key})
