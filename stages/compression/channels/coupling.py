"""Which channels of a network go together: a walk along its values.

Every value that is followed has its channels along one dimension, each of a unit
(`stages.compression.channels.units`). *Sources* are the nodes whose channels training masks: layers,
embeddings, constants, and what adds an offset of its own. A unit is gone where all its sources' channels are
0. What else its channels then are is followed too, as ``rest``: 0 through ReLU, ½ through a sigmoid, which a
layer's bias takes in.

What an operator does to channels is its rule (`stages.compression.channels.rules`); an operator without one
lets the channels stay that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.compression.channels.rules import RULES
from stages.compression.channels.units import Channels
from stages.compression.channels.walk import Walk
from stages.graph.ir import Graph
from stages.graph.operators.registry import is_layer


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """What goes together.

    Args:
        channels: of each value that has any, by its name, units as their roots; others stay whole.
        sources: the nodes whose channels a mask makes 0, in order of execution.
        free: the units that may go: each is of a layer, and nothing lets it stay.
        stays: by name of a layer of which some channels stay in any case, why.
    """

    channels: Mapping[str, Channels]
    sources: tuple[str, ...]
    free: frozenset[int]
    stays: Mapping[str, str]

    def keep(self, name: str, gone: frozenset[int]) -> np.ndarray | None:
        """Which channels of a value stay without the units `gone`, bool (n,); None where it stays whole."""
        found = self.channels.get(name)
        if found is None or not gone.intersection(found.ids.tolist()):
            return None
        return ~np.isin(found.ids, np.fromiter(gone, np.int64))


def couple(graph: Graph) -> Coupling:
    """Follow the channels of a network, BatchNorm attached to its layers."""
    walk = Walk(graph)
    for node in graph.nodes:
        rule = RULES.get(node.op)
        reason = f"'{node.name}' ({node.op}) reads them, whose channels are not followed"
        found = None
        if walk.shares(node):
            reason = f"'{node.name}' shares its parameters with another layer"
        elif rule is not None:
            found = rule(walk, node)
        if found is not None:
            walk.values[node.name] = found
        elif rule is None or walk.shares(node):
            for own in walk.operands(node):
                walk.stay(own, reason)
    walk.stay(walk.values.get(graph.output), "they are the network's outputs")
    return _result(walk)


def _result(walk: Walk) -> Coupling:
    channels = {
        name: Channels(axis=own.axis, ids=walk.units.roots(own.ids), rest=own.rest)
        for name, own in walk.values.items()
    }
    layers = {name: channels[name] for name in walk.sources if is_layer(walk.graph[name])}
    found = {int(unit) for own in layers.values() for unit in own.ids}
    free = frozenset(unit for unit in found if not walk.units.reasons([unit]))
    stays = {name: "; ".join(walk.units.reasons(own.ids)) for name, own in layers.items()}
    for node in walk.graph.nodes:
        if is_layer(node) and node.name not in layers:
            stays[node.name] = "it shares its parameters with another layer"
    return Coupling(
        channels=channels,
        sources=tuple(walk.sources),
        free=free,
        stays={name: why for name, why in stays.items() if why},
    )
