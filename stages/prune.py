"""Stage *prune*: weights that the network can do without become 0, for good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel
from stages.compression.fitting import Pruning
from stages.compression.magnitude import Magnitude
from stages.compression.objective import PruningObjective
from stages.training.float_network import FloatNetwork


@dataclass(frozen=True, kw_only=True)
class Prune(Pruning):
    """Prune the float network and train what is left; all later stages keep its zeros.

    Args:
        data: the data set; only its training split is used.
        method: which weights stay.
        schedule: when the others go.
        recipe: optimizer, learning rate and the like; epochs=0 prunes without training.
        regrow: whether what is pruned goes on learning, and may come back, until masks rest.
        distillation: how much the network before pruning teaches.
        task: what is learned.
    """

    name: ClassVar[str] = "prune"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel,)
    produces: ClassVar[type] = FloatModel

    method: Magnitude
    regrow: bool = False

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Train and prune; a killed training goes on from its last epoch."""
        model: FloatModel = inputs[FloatModel]
        network = FloatNetwork(model.graph, regrow=self.regrow)
        taught = self.taught(network, model.graph, ctx)
        objective = PruningObjective(network, self.method, self.schedule, taught)
        if self.recipe.epochs:
            self.fit(ctx, network, objective)
        else:
            objective.choose(1.0)
        return replace(model, graph=network.graph())
