"""What a training minimizes, and over which parameters. The loop around it is `stages.training.fit`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from stages.tasks.base import Task
from stages.training.ranks import ProcessGroup


class Objective(Protocol):
    """A network with its loss. Steps count from 0 over the whole training."""

    @property
    def module(self) -> nn.Module:
        """The network: a batch (N, …) to outputs (N, …)."""

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """As torch's optimizers take them; ``rate`` in a group (else 1) multiplies the learning rate."""

    def loss(self, x: Tensor, y: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """The loss, shape (), and the outputs for a batch at `step` of `steps`."""

    def settled(self, step: int, steps: int) -> bool:
        """Whether a network whose training ended after `step` steps can be used as it is."""


@runtime_checkable
class Divided(Protocol):
    """An `Objective` that learns from batches by more than the loss's gradient: ranges, starting points."""

    def divide(self, group: ProcessGroup) -> None:
        """From now on each batch is a rank's share of one; learn from all of it."""


class FloatObjective:
    """The task's loss of a network in float: the default."""

    def __init__(self, module: nn.Module, task: Task, label_smoothing: float = 0.0) -> None:
        self.module = module
        self._task = task
        self._label_smoothing = label_smoothing

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Weights decay, vectors (biases, BatchNorm) do not."""
        return decayed_apart(self.module.parameters(), weight_decay)

    def loss(self, x: Tensor, y: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """The mean over the batch."""
        outputs = self.module(x).float()
        return self._task.loss(outputs, y, self._label_smoothing), outputs

    def settled(self, step: int, steps: int) -> bool:
        """At any time."""
        return True


def decayed_apart(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: parameters of two dimensions and more with weight decay, the others without."""
    parameters = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
