"""Stage *capture*: the trained module as a graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel, TrainedModel
from stages.data.base import Data
from stages.data.batches import input_dtype
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.graph.ir import Graph
from stages.models.base import Model, build, output_of
from stages.tasks.base import Task, require_fit
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Build the model anew, give it the trained weights, and capture it. No translation is part of training.

    Args:
        model: the architecture that was trained.
        data: the data set, for the shape of its images and the number of its classes.
        task: what the outputs mean.
    """

    name: ClassVar[str] = "capture"
    consumes: ClassVar[tuple[type, ...]] = (TrainedModel,)
    produces: ClassVar[type] = FloatModel
    cacheable: ClassVar[bool] = True

    model: Model
    data: Data
    task: Task = field(default_factory=Classification)

    def check(self) -> None:
        """Raise for operators without an integer form, and outputs or labels that are not the task's.

        All that before anything is trained.
        """
        with torch.random.fork_rng(devices=[]):
            module = self.model.build(self.data.shape, self._outputs())
            graph = self._captured(module)
            fold_batch_norm(graph)
        for split in (self.data.test(), self.data.train()):
            shape, labels = graph[graph.output].shape, np.asarray(split.labels)
            require_fit(self.task, shape, self.data.num_classes, labels)

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Capture; the graph is verified against the module."""
        module = inputs[TrainedModel].restore(build(self.model, self.data, ctx.seed, self._outputs()))
        return FloatModel(graph=self._captured(module))

    def _captured(self, module: nn.Module) -> Graph:
        return capture(module, self.data.shape, dtype=input_dtype(self.data), output=output_of(self.model))

    def _outputs(self) -> int:
        return self.task.outputs(self.data.num_classes)
