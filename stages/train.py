"""Stage *train*: the float network, from given weights or from a training run, captured as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.context import RunContext
from pipeline.seed import derive_seed
from pipeline.stage import Inputs
from stages.artifacts import FloatModel
from stages.data.base import Data
from stages.graph.capture import capture
from stages.graph.fold_bn import fold_batch_norm
from stages.models.base import Model
from stages.models.checkpoint import Epoch
from stages.models.fit import FloatTraining, fit


@dataclass(frozen=True, kw_only=True)
class Train:
    """Build the model; train it unless ``model.weights`` is given; capture it.

    Args:
        model: the architecture, and the file of its weights if there is one.
        data: the data set whose training split is used.
        training: the recipe; not used with given weights.
    """

    name: ClassVar[str] = "train"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type] = FloatModel
    code: ClassVar[tuple[str, ...]] = (
        "stages.artifacts",
        "stages.models",
        "stages.data",
        "stages.graph.capture",
    )
    cacheable: ClassVar[bool] = True

    model: Model
    data: Data
    training: FloatTraining

    def check(self) -> None:
        """Raise for missing data, weights that do not fit, and operators without an integer form."""
        self.data.check()
        with torch.random.fork_rng(devices=[]):
            module = self.model.build(self.data.shape, self.data.num_classes)
            fold_batch_norm(capture(module, self.data.shape))

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Train where there are no weights; a killed training goes on from its last epoch."""
        torch.manual_seed(derive_seed(ctx.seed, "weights"))
        module = self.model.build(self.data.shape, self.data.num_classes)
        if self.model.weights is None:

            def record(number: int, epoch: Epoch) -> None:
                ctx.tracker.metrics({"train/loss": epoch.loss, "train/top1": epoch.accuracy}, step=number)

            fit(
                module,
                self.data,
                self.training,
                seed=ctx.seed,
                device=ctx.device,
                progress=ctx.console.progress,
                on_epoch=record,
                checkpoint=ctx.scratch / "training.safetensors",
            )
        return FloatModel(graph=capture(module.cpu(), self.data.shape))
