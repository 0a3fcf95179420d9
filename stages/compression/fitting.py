"""A training that prunes, as stages run it: resumed where it was killed, its curve recorded."""

from __future__ import annotations

import math

from pipeline.context import RunContext
from stages.data.base import Data
from stages.tasks.base import Task
from stages.training.checkpoint import Epoch
from stages.training.fit import FloatTraining, fit
from stages.training.float_network import FloatNetwork
from stages.training.objective import Objective


def fit_pruned(
    ctx: RunContext,
    name: str,
    network: FloatNetwork,
    objective: Objective,
    data: Data,
    recipe: FloatTraining,
    task: Task,
) -> None:
    """Train the network in place.

    Args:
        ctx: the run.
        name: the stage's, before the names of its figures.
        network: what is trained.
        objective: its loss, which chooses what goes.
        data: the data set.
        recipe: how to train.
        task: what is learned.
    """

    def record(number: int, epoch: Epoch) -> None:
        values = {
            f"{name}/loss": epoch.loss,
            f"{name}/{task.batched.key}": epoch.quality,
            f"{name}/held_out_{task.batched.key}": epoch.held_out,
        }
        ctx.tracker.metrics({k: v for k, v in values.items() if not math.isnan(v)}, step=number)

    fit(
        network,
        data,
        recipe,
        task=task,
        seed=ctx.seed,
        device=ctx.device,
        objective=objective,
        progress=ctx.console.progress,
        on_epoch=record,
        on_resume=lambda where: ctx.resumed(name, where),
        checkpoint=ctx.scratch / f"{name}.safetensors",
    )
