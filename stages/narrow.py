"""Stage *narrow*: whole channels that the network can do without are left out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel, NarrowedLayer
from stages.compression.channels.coupling import Coupling
from stages.compression.channels.narrowing import check_same_function, masks_of, narrowed
from stages.compression.channels.objective import ChannelObjective
from stages.compression.channels.selection import ChannelSelection
from stages.compression.fitting import Pruning
from stages.graph.cost import multiply_accumulates
from stages.graph.fold import fold_batch_norm
from stages.graph.ir import Graph
from stages.graph.operators.registry import is_layer
from stages.training.float_network import FloatNetwork

NAMED = 8
"""Layers that keep their channels are named up to here."""


@dataclass(frozen=True, kw_only=True)
class Narrow(Pruning):
    """Prune channels while the network trains, and rewrite it to smaller dense layers.

    What follows is given a network as any other: fewer channels, no masks.

    Args:
        data: the data set; only its training split is used.
        method: which channels stay.
        schedule: when the others go; where that is at once, what is left trains as the smaller network.
        recipe: optimizer, learning rate and the like; epochs=0 prunes without training.
        distillation: how much the network before pruning teaches.
        task: what is learned.
    """

    name: ClassVar[str] = "narrow"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel,)
    produces: ClassVar[type] = FloatModel

    method: ChannelSelection

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Train, prune and rewrite; a killed training goes on from its last epoch."""
        graph: Graph = inputs[FloatModel].graph
        network = FloatNetwork(graph)
        objective = ChannelObjective(network, self.method, self.schedule, self.taught(network, graph, ctx))
        gradual = self.recipe.epochs > 0 and self.schedule.end > 0.0
        if gradual:
            self.fit(ctx, network, objective)
        else:
            objective.choose(1.0)
        before, small = network.graph(), _rewritten(network, objective)
        if self.recipe.epochs and not gradual:  # in one shot: what is left trains at its own speed
            network = FloatNetwork(small)
            taught = self.taught(network, graph, ctx)
            self.fit(ctx, network, taught)
            small = network.graph()
        layers = _layers(before, small)
        for line in _lines(layers, objective.coupling, self.method.round_to):
            ctx.console.say(f"  {self.name}: {line}")
        return FloatModel(graph=small, narrowed=layers)


def _rewritten(network: FloatNetwork, objective: ChannelObjective) -> Graph:
    """The network without the channels that are masked."""
    coupling, gone, graph = objective.coupling, objective.gone(), network.graph()
    small = narrowed(graph, coupling, gone)
    check_same_function(fold_batch_norm(graph), fold_batch_norm(small), masks_of(graph, coupling, gone))
    return small


def _layers(before: Graph, after: Graph) -> tuple[NarrowedLayer, ...]:
    """What was, and is, of each layer."""
    dense, now = multiply_accumulates(before), multiply_accumulates(after)
    return tuple(
        NarrowedLayer(
            name=node.name,
            channels=(_channels(before, node.name), _channels(after, node.name)),
            operations=(dense[node.name], now[node.name]),
        )
        for node in before.nodes
        if is_layer(node)
    )


def _channels(graph: Graph, name: str) -> int:
    return len(graph.params[graph[name].params["weight"]])


def _lines(layers: tuple[NarrowedLayer, ...], coupling: Coupling, round_to: int) -> list[str]:
    """What became of the network, and which layers keep their channels, and why."""
    dense, now = (sum(layer.operations[i] for layer in layers) for i in range(2))
    fewer = sum(layer.channels[1] < layer.channels[0] for layer in layers)
    lines = [f"{fewer} of {len(layers)} layers lose channels; {now / max(dense, 1):.1%} of operations stay"]
    by_reason: dict[str, list[str]] = {}
    for name, why in coupling.stays.items():
        by_reason.setdefault(why, []).append(name)
    lines += [f"channels of {_names(names)} stay: {why}" for why, names in list(by_reason.items())[:NAMED]]
    if (others := len(by_reason) - NAMED) > 0:
        lines.append(f"and those of other layers, for {others} more reasons")
    few = [
        layer.name for layer in layers if layer.channels[0] <= round_to and layer.name not in coupling.stays
    ]
    if round_to > 1 and few:
        lines.append(f"channels of {_names(few)} stay: they are at most round_to={round_to}")
    return lines


def _names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
