"""What a channel is worth.

=========  ==================================================================================================
l1, l2     the norm of its filter (Li et al. 2017, arXiv 1608.08710), times BatchNorm's gain, over the mean of
           its layer's
gamma      BatchNorm's |γ| (Liu et al. 2017, arXiv 1708.06519); a unit without any never goes
=========  ==================================================================================================

A unit has the mean of its channels' scores, over all layers that write them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stages.compression.channels.coupling import Coupling
from stages.graph.fold import gain_of
from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer

Score = Literal["l1", "l2", "gamma"]


@torch.no_grad()
def unit_scores(graph: Graph, coupling: Coupling, score: Score) -> dict[int, float]:
    """The score of each free unit.

    Args:
        graph: the network with the parameters of now, BatchNorm attached.
        coupling: its units.
        score: see the module.
    """
    found: dict[int, list[float]] = {unit: [] for unit in coupling.free}
    for name in coupling.sources:
        node = graph[name]
        own = _of_channels(graph, node, score) if is_layer(node) else None
        if own is None:
            continue
        for unit, value in zip(coupling.channels[name].ids.tolist(), own.tolist(), strict=True):
            if unit in found:
                found[unit].append(value)
    return {unit: sum(own) / len(own) if own else float("inf") for unit, own in found.items()}


def _of_channels(graph: Graph, node: Node, score: Score) -> Tensor | None:
    """The scores of a layer's channels, float64 (O,); None where it has none."""
    if score == "gamma":
        gamma = graph.param(node, "bn_weight")
        return None if gamma is None else gamma.double().abs()
    rows = graph.params[node.params["weight"]].double().flatten(1)
    norms = rows.abs().sum(1) if score == "l1" else rows.square().sum(1).sqrt()
    if "bn_mean" in node.params:
        norms = norms * gain_of(node, graph.params).abs()
    return norms / norms.mean().clamp_min(1e-12)
