"""Stage *observe*: one forward pass over the calibration samples, statistics for every calibrator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel, Observations
from stages.backends.native_kernels.observing import find_taking
from stages.data.base import Data
from stages.data.batches import batches, calibration_subset
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Node
from stages.graph.points import quantization_points
from stages.quant.granularity.per_tensor import samples_as_rows
from stages.quant.statistics import Statistics
from stages.quant.statistics_of_ranks import merged, own_batches


@dataclass(frozen=True, kw_only=True)
class Observe:
    """Fold and fuse the network, then watch every quantization point.

    Independent of quantizer, calibrator and granularity: a sweep over those observes once. Of several ranks
    each watches a run of the batches; what they saw is merged exactly, so that it is that of one.

    Args:
        data: the data set; samples come from its training split.
        samples: how many, drawn across classes by the run's seed; at most the split's size.
        batch_size: samples a forward pass. A moving average counts its steps in batches.
    """

    name: ClassVar[str] = "observe"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel,)
    produces: ClassVar[type] = Observations
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True
    uses_device: ClassVar[bool] = True
    collective: ClassVar[bool] = True

    data: Data
    samples: int = 512
    batch_size: int = 64

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> Observations:
        """One pass; the peak memory is that of one batch. Rank 0 has the statistics of all."""
        graph = fuse(fold_batch_norm(inputs[FloatModel].graph))
        there = graph.with_params({key: tensor.to(ctx.device) for key, tensor in graph.params.items()})
        take = find_taking()
        statistics = {name: Statistics(take=take) for name in quantization_points(graph)}

        def record(node: Node, value: Tensor) -> Tensor:
            if node.name in statistics:
                statistics[node.name].update(samples_as_rows(value.cpu()))
            return value

        split = self.data.train()
        ids = calibration_subset(split, self.samples, ctx.seed)
        own = own_batches(ids, self.batch_size, ctx.ranks)
        with torch.inference_mode(), ctx.console.progress("observing", len(own)) as advance:
            for x, _ in batches(split, self.batch_size, self.data, order=own):
                execute(there, x.to(ctx.device), record)
                advance(len(x))
        statistics = {name: merged(found, ctx.ranks) for name, found in statistics.items()}
        return Observations(graph=graph, statistics=statistics, sample_ids=tuple(int(i) for i in ids))
