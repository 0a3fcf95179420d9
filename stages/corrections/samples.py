"""What the stages that correct layer by layer share: their samples, and what there is to correct."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import PipelineError
from stages.data.base import Data
from stages.data.batches import batches
from stages.graph.ir import Graph
from stages.graph.points import layers


def check_sizes(batch_size: int, memory: int) -> None:
    """Raise ValueError for a batch of no samples, or no memory (MiB)."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    if memory < 1:
        raise ValueError(f"memory={memory}: must be at least 1 MiB")


def check_as_calibrated(graph: Graph, calibrated: Graph) -> None:
    """Raise `PipelineError` where `graph` was trained further after it was `calibrated`."""

    def weight(graph: Graph, name: str) -> Tensor:
        return graph.params[graph[name].params["weight"]]

    if any(not torch.equal(weight(graph, name), weight(calibrated, name)) for name in layers(calibrated)):
        raise PipelineError(
            "correction: the network was trained further after its calibration, which has chosen its levels. "
            "Remedy: training=post_training, or correction=[]; equalize and smooth go with either"
        )


def calibration_samples(data: Data, sample_ids: Iterable[int], batch_size: int) -> Tensor:
    """The samples that calibration observed, float32 (N, C, H, W)."""
    order = np.array(tuple(sample_ids), dtype=np.int64)
    return torch.cat([x for x, _ in batches(data.train(), batch_size, data, order=order)])
