"""Stage *capture*: the trained module as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel, TrainedModel
from stages.data.base import Data
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.models.base import Model, build, output_of


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Build the model anew, give it the trained weights, and capture it. No translation is part of training.

    Args:
        model: the architecture that was trained.
        data: the data set, for the shape of its images and the number of its classes.
    """

    name: ClassVar[str] = "capture"
    consumes: ClassVar[tuple[type, ...]] = (TrainedModel,)
    produces: ClassVar[type] = FloatModel
    cacheable: ClassVar[bool] = True

    model: Model
    data: Data

    def check(self) -> None:
        """Raise for operators without an integer form, before anything is trained."""
        with torch.random.fork_rng(devices=[]):
            module = self.model.build(self.data.shape, self.data.num_classes)
            fold_batch_norm(capture(module, self.data.shape, output=output_of(self.model)))

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Capture; the graph is verified against the module."""
        module = inputs[TrainedModel].restore(build(self.model, self.data, ctx.seed))
        return FloatModel(graph=capture(module, self.data.shape, output=output_of(self.model)))
