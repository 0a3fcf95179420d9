"""The protocol of an architecture: a frozen dataclass that builds a `torch.nn.Module`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import nn

from pipeline.seed import derive_seed
from stages.data.base import Data
from stages.models.weights import weights_fingerprint

if TYPE_CHECKING:
    from stages.integer.program import Program  # which no training depends on


@runtime_checkable
class Model(Protocol):
    """An architecture: a class whose arguments are its configuration.

    In evaluation mode, the built module can be captured by ``torch.export`` with a dynamic batch dimension.
    Three members more are optional. ``weights: str | None`` is a file of trained weights, without which the
    stage *train* trains; ``build`` loads it (`stages.models.weights.load_weights`). ``fingerprint() -> str``
    stands for what the result depends on beside the arguments; else it is the weights file's sha256.
    ``program() -> Program | None`` gives the integers where the model is a program already: then the stage
    *load* takes the place of all that would make one, and ``build`` is not called.

    Example::

        from dataclasses import dataclass
        from torch import nn

        @dataclass(frozen=True, kw_only=True)
        class Mine:
            width: int = 32

            def build(self, shape, num_classes):  # shape: (channels, height, width)
                return nn.Sequential(
                    nn.Conv2d(shape[0], self.width, 3, padding=1), nn.ReLU(),
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.width, num_classes),
                )
    """

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network: float32 (N, *shape) to logits (N, num_classes), in training mode.

        Random weights are drawn from torch's global generator: seed it first.

        Raises:
            PipelineError: images too small for the architecture, or weights that do not fit it.
        """


def weights_of(model: Model) -> str | None:
    """The file of trained weights that a model starts from; None for random ones."""
    weights: str | None = getattr(model, "weights", None)
    return weights


def is_trained(model: Model) -> bool:
    """Whether the network comes with trained weights: from a file, or as ``pretrained`` says, by itself."""
    return weights_of(model) is not None or bool(getattr(model, "pretrained", False))


def output_of(model: Model) -> str | int | None:
    """Which of a network's several results counts, by key or position; None for the first."""
    output: str | int | None = getattr(model, "output", None)
    return output


def program_of(model: Model) -> Program | None:
    """The integer program that a model is already; None where it is a float network.

    Raises:
        PipelineError: its file cannot be read.
    """
    own = getattr(model, "program", None)
    program: Program | None = own() if callable(own) else None
    return program


def fingerprint_of(model: Model) -> str:
    """The model's own fingerprint, else the sha256 of its weights file; empty where there is neither."""
    own = getattr(model, "fingerprint", None)
    return str(own()) if callable(own) else weights_fingerprint(weights_of(model))


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
