"""Stage *narrow*: whole channels that the network can do without are left out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel, NarrowedLayer
from stages.compression.channels.coupling import Coupling
from stages.compression.channels.narrowing import check_same_function, masks_of, narrowed
from stages.compression.channels.objective import ChannelObjective
from stages.compression.channels.selection import ChannelSelection
from stages.compression.fitting import fit_pruned
from stages.compression.schedule import PruningSchedule
from stages.compression.taught import TaughtObjective
from stages.data.base import Data
from stages.finetune import teacher_of
from stages.graph.cost import multiply_accumulates
from stages.graph.fold import fold_batch_norm
from stages.graph.ir import Graph
from stages.graph.operators.registry import is_layer
from stages.tasks.base import Task, require_learnable, require_recipe
from stages.tasks.classification import Classification
from stages.training.fit import FloatTraining
from stages.training.float_network import FloatNetwork
from stages.training.qat_objective import Distillation

NAMED = 8
"""Layers that keep their channels are named up to here."""


@dataclass(frozen=True, kw_only=True)
class Narrow:
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
    cacheable: ClassVar[bool] = True

    data: Data
    method: ChannelSelection
    recipe: FloatTraining
    schedule: PruningSchedule = field(default_factory=PruningSchedule)
    distillation: Distillation = field(default_factory=Distillation)
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        require_recipe(
            self.task,
            "compression.narrow.recipe",
            label_smoothing=self.recipe.label_smoothing,
            augment=self.recipe.augment,
        )

    @property
    def depends_on_threads(self) -> bool:
        """Where anything is trained."""
        return self.recipe.epochs > 0

    def check(self) -> None:
        """Raise where the data is missing, or has labels that cannot be learned from."""
        self.data.check()
        if self.recipe.epochs and self.distillation.weight < 1.0:
            require_learnable(self.task, np.asarray(self.data.train().labels))

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Train, prune and rewrite; a killed training goes on from its last epoch."""
        graph: Graph = inputs[FloatModel].graph
        network = FloatNetwork(graph)
        objective = ChannelObjective(network, self.method, self.schedule, self._taught(network, graph, ctx))
        gradual = self.recipe.epochs > 0 and self.schedule.end > 0.0
        if gradual:
            fit_pruned(ctx, self.name, network, objective, self.data, self.recipe, self.task)
        else:
            objective.choose(1.0)
        before, small = network.graph(), _rewritten(network, objective)
        if self.recipe.epochs and not gradual:  # in one shot: what is left trains at its own speed
            network = FloatNetwork(small)
            taught = self._taught(network, graph, ctx)
            fit_pruned(ctx, self.name, network, taught, self.data, self.recipe, self.task)
            small = network.graph()
        layers = _layers(before, small)
        for line in _lines(layers, objective.coupling, self.method.round_to):
            ctx.console.say(f"  {self.name}: {line}")
        return FloatModel(graph=small, narrowed=layers)

    def _taught(self, network: FloatNetwork, teacher: Graph, ctx: RunContext) -> TaughtObjective:
        return TaughtObjective(
            network,
            self.task,
            self.recipe.label_smoothing,
            teacher_of(teacher, ctx.device),
            self.distillation,
        )


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
