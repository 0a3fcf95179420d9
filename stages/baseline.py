"""Stage *baseline*: the float network on the test split, once for all the runs that quantize it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import Baseline, FloatModel
from stages.data.base import Data
from stages.data.batches import batches, subset
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse


@dataclass(frozen=True, kw_only=True)
class MeasureFloat:
    """Float logits of the test samples, and how fast they come. BatchNorm is folded, as for deployment.

    Args:
        data: the data set whose test split is used.
        samples: how many test samples, drawn by the run's seed; None for all.
        batch_size: samples at a time.
    """

    name: ClassVar[str] = "baseline"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel,)
    produces: ClassVar[type] = Baseline
    cacheable: ClassVar[bool] = True

    data: Data
    samples: int | None = None
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise ValueError(f"samples={self.samples}: must be at least 1, or null for all")

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> Baseline:
        """One pass over the samples."""
        model: FloatModel = inputs[FloatModel]
        graph = fuse(fold_batch_norm(model.graph))
        split = self.data.test()
        ids = subset(split, self.samples or len(split), ctx.seed, "test")
        logits: list[NDArray[np.float32]] = []
        seconds = 0.0
        with torch.inference_mode(), ctx.console.progress("running float", len(ids)) as advance:
            for x, _ in batches(split, self.batch_size, self.data, order=ids):
                if not logits:
                    execute(graph, x)  # the first call prepares kernels
                start = time.perf_counter()
                logits.append(execute(graph, x).numpy())
                seconds += time.perf_counter() - start
                advance(len(x))
        return Baseline(
            logits=np.concatenate(logits),
            labels=np.asarray(split.labels)[ids],
            sample_ids=ids,
            values={
                **model.metrics(),
                "float/images_per_second": len(ids) / seconds,
                "test/samples": float(len(ids)),
            },
        )
