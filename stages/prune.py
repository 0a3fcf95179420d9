"""Stage *prune*: weights that the network can do without become 0, for good."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel
from stages.compression.fitting import fit_pruned
from stages.compression.magnitude import Magnitude
from stages.compression.objective import PruningObjective
from stages.compression.schedule import PruningSchedule
from stages.compression.taught import TaughtObjective
from stages.data.base import Data
from stages.finetune import teacher_of
from stages.tasks.base import Task, require_learnable, require_recipe
from stages.tasks.classification import Classification
from stages.training.fit import FloatTraining
from stages.training.float_network import FloatNetwork
from stages.training.qat_objective import Distillation


@dataclass(frozen=True, kw_only=True)
class Prune:
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
    cacheable: ClassVar[bool] = True

    data: Data
    method: Magnitude
    recipe: FloatTraining
    schedule: PruningSchedule = field(default_factory=PruningSchedule)
    regrow: bool = False
    distillation: Distillation = field(default_factory=Distillation)
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        require_recipe(
            self.task,
            "compression.prune.recipe",
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
        """Train and prune; a killed training goes on from its last epoch."""
        model: FloatModel = inputs[FloatModel]
        network = FloatNetwork(model.graph, regrow=self.regrow)
        taught = TaughtObjective(
            network,
            self.task,
            self.recipe.label_smoothing,
            teacher_of(model.graph, ctx.device),
            self.distillation,
        )
        objective = PruningObjective(network, self.method, self.schedule, taught)
        if self.recipe.epochs:
            fit_pruned(ctx, self.name, network, objective, self.data, self.recipe, self.task)
        else:
            objective.choose(1.0)
        return replace(model, graph=network.graph())
