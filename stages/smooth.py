"""Stage *smooth*: scale moved from the inputs of linear layers to their weights; the same float function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel
from stages.corrections.smooth import smooth, smoothable
from stages.data.base import Data
from stages.data.batches import batches, calibration_subset
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse


@dataclass(frozen=True, kw_only=True)
class Smooth:
    """Move scale from the inputs of linear layers to their weights; the network comes out folded and fused.

    Args:
        data: the data set; samples come from its training split.
        samples: how many, drawn across classes by the run's seed; at most the split's size.
        batch_size: samples a forward pass.
        alpha: how much of the scale moves, 0..1.
    """

    name: ClassVar[str] = "smooth"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel,)
    produces: ClassVar[type] = FloatModel
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

    data: Data
    samples: int = 512
    batch_size: int = 64
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha={self.alpha}: must be 0..1")

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Fold, fuse, watch the inputs of linear layers, migrate."""
        model: FloatModel = inputs[FloatModel]
        graph = fuse(fold_batch_norm(model.graph))
        if not smoothable(graph):
            ctx.console.warn("smooth: no linear layer reads another layer through ReLU alone; no change")
        split = self.data.train()
        ids = calibration_subset(split, self.samples, ctx.seed)
        samples = (x for x, _ in batches(split, self.batch_size, self.data, order=ids))
        return replace(model, graph=smooth(graph, samples, alpha=self.alpha))
