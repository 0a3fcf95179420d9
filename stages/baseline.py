"""Stage *baseline*: the float network on the test split, once for all the runs that quantize it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import Baseline, FloatModel
from stages.data.base import Data
from stages.measuring.accuracy import figures, outputs_of, sample_ids
from stages.measuring.forms import float_form
from stages.tasks.base import Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class MeasureFloat:
    """Float outputs of the test samples. BatchNorm is folded, as for deployment.

    Args:
        data: the data set whose test split is used.
        samples: how many test samples, drawn by the run's seed; None for all.
        batch_size: samples at a time.
        task: what the outputs mean.
    """

    name: ClassVar[str] = "baseline"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel,)
    produces: ClassVar[type] = Baseline
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

    data: Data
    samples: int | None = None
    batch_size: int = 256
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples={self.samples}: must be at least 1, or null for all")

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> Baseline:
        """One pass over the samples."""
        model: FloatModel = inputs[FloatModel]
        split = self.data.test()
        ids = sample_ids(split, self.samples, ctx.seed)
        forms = {"float": float_form(model.graph)}
        outputs = outputs_of(forms, self.data, split, ids, self.batch_size, ctx.console)
        labels = np.asarray(split.labels)[ids]
        measured = figures(self.task, outputs, labels)
        return Baseline(
            outputs=outputs["float"],
            labels=labels,
            sample_ids=ids,
            values={**model.metrics(), "test/samples": float(len(ids)), **measured},
        )
