"""Training of a smaller network by the labels and by the network that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from stages.tasks.base import Task
from stages.training.objective import decayed_apart
from stages.training.qat_objective import Distillation


class TaughtObjective:
    """The task's loss, and how far outputs are from a teacher's.

    Args:
        module: what is trained.
        task: what is learned.
        label_smoothing: in [0, 1).
        teacher: the network before pruning, x to outputs.
        distillation: how much it teaches.
    """

    def __init__(
        self,
        module: nn.Module,
        task: Task,
        label_smoothing: float,
        teacher: Callable[[Tensor], Tensor],
        distillation: Distillation,
    ) -> None:
        self.module = module
        self._task = task
        self._label_smoothing = label_smoothing
        self._teacher = teacher
        self._distillation = distillation

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Weights decay, vectors do not."""
        return decayed_apart(self.module.parameters(), weight_decay)

    def loss(self, x: Tensor, y: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """The mean over the batch."""
        outputs = self.module(x)
        loss = self._distillation.loss(
            self._task, outputs, y, self._label_smoothing, lambda: self._teacher(x)
        )
        return loss, outputs

    def settled(self, step: int, steps: int) -> bool:
        """At any time."""
        return True
