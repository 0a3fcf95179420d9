"""What the stages that correct layer by layer share: their samples, and what there is to correct."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.stage import Stage
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


def misfits_of_training(name: str, stages: Iterable[Stage]) -> Iterator[str]:
    """Why the correction `name` does not go with quantized training, where a run has that."""
    if "finetune" in {stage.name for stage in stages}:
        yield (
            f"correction={name} is for networks that are not trained after their calibration: training has "
            "fitted weights and biases to their rounding, and a correction towards the unrounded network "
            f"undoes that. Remedy: leave {name} out, or training=post_training; equalize and smooth go with "
            "either"
        )


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
