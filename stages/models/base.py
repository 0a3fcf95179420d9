"""The protocol of an architecture: a frozen dataclass that builds a `torch.nn.Module`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import nn

from pipeline.seed import derive_seed
from stages.data.base import Data


@runtime_checkable
class Model(Protocol):
    """An architecture and where its weights come from.

    In evaluation mode, the built module can be captured by ``torch.export`` with a dynamic batch dimension.
    """

    @property
    def weights(self) -> str | None:
        """File of trained weights, .safetensors or .pt; None to start from random ones."""

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The network: float32 (N, *shape) to logits (N, num_classes), in training mode.

        Random weights are drawn from torch's global generator: seed it first.

        Raises:
            PipelineError: images too small for the architecture, or weights that do not fit it.
        """

    def fingerprint(self) -> str:
        """The sha256 of the weights file; empty where there is none."""


def build(model: Model, data: Data, seed: int, outputs: int | None = None) -> nn.Module:
    """The network for a data set, its random weights drawn by the run's seed: the same ones each time.

    Args:
        model: the architecture.
        data: gives the shape of a sample.
        seed: the run's.
        outputs: how many; None for one a class.
    """
    torch.manual_seed(derive_seed(seed, "weights"))
    return model.build(data.shape, data.num_classes if outputs is None else outputs)
