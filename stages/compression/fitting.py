"""What stages that prune share: data, how to train, when what goes; resumed where they were killed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pipeline.context import RunContext
from stages.compression.schedule import PruningSchedule
from stages.compression.taught import TaughtObjective
from stages.data.base import Data
from stages.graph.ir import Graph
from stages.tasks.base import Task, require_learnable, require_recipe
from stages.tasks.classification import Classification
from stages.training.checkpoint import Epoch
from stages.training.fit import FloatTraining, fit
from stages.training.float_network import FloatNetwork
from stages.training.objective import Objective
from stages.training.qat_objective import Distillation
from stages.training.teacher import teacher_of


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """A stage that prunes while it trains.

    Args:
        data: the data set; only its training split is used.
        recipe: optimizer, learning rate and the like; epochs=0 prunes without training.
        schedule: when what is pruned goes.
        distillation: how much the network before pruning teaches.
        task: what is learned.
    """

    name: ClassVar[str]
    cacheable: ClassVar[bool] = True

    data: Data
    recipe: FloatTraining
    schedule: PruningSchedule = field(default_factory=PruningSchedule)
    distillation: Distillation = field(default_factory=Distillation)
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        require_recipe(
            self.task,
            f"compression.{self.name}.recipe",
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

    def taught(self, network: FloatNetwork, teacher: Graph, ctx: RunContext) -> TaughtObjective:
        """The loss of `network`, by the labels and by the network before pruning."""
        return TaughtObjective(
            network,
            self.task,
            self.recipe.label_smoothing,
            teacher_of(teacher, ctx.device),
            self.distillation,
        )

    def fit(self, ctx: RunContext, network: FloatNetwork, objective: Objective) -> None:
        """Train the network in place, its curve recorded; a killed training goes on from its last epoch.

        Args:
            ctx: the run.
            network: what is trained.
            objective: its loss, which chooses what goes.
        """

        def record(number: int, epoch: Epoch) -> None:
            values = {
                f"{self.name}/loss": epoch.loss,
                f"{self.name}/{self.task.batched.key}": epoch.quality,
                f"{self.name}/held_out_{self.task.batched.key}": epoch.held_out,
            }
            ctx.tracker.metrics({k: v for k, v in values.items() if not math.isnan(v)}, step=number)

        fit(
            network,
            self.data,
            self.recipe,
            task=self.task,
            seed=ctx.seed,
            device=ctx.device,
            objective=objective,
            progress=ctx.console.progress,
            on_epoch=record,
            on_resume=lambda where: ctx.resumed(self.name, where),
            checkpoint=ctx.scratch / f"{self.name}.safetensors",
        )
