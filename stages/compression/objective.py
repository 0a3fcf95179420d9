"""Training that prunes: the task's loss, and masks that follow a schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from stages.compression.magnitude import Magnitude
from stages.compression.schedule import PruningSchedule
from stages.tasks.base import Task
from stages.training.float_network import FloatNetwork
from stages.training.objective import decayed_apart
from stages.training.qat_objective import Distillation


class PruningObjective:
    """The loss of a network whose masks are chosen as it trains.

    Args:
        network: what is trained.
        method: which weights stay.
        schedule: when the others go.
        task: what is learned.
        label_smoothing: in [0, 1).
        teacher: the network before pruning, x to outputs.
        distillation: how much it teaches.
    """

    def __init__(
        self,
        network: FloatNetwork,
        method: Magnitude,
        schedule: PruningSchedule,
        task: Task,
        label_smoothing: float,
        teacher: Callable[[Tensor], Tensor],
        distillation: Distillation,
    ) -> None:
        self.module: nn.Module = network
        self._network = network
        self._method = method
        self._schedule = schedule
        self._task = task
        self._label_smoothing = label_smoothing
        self._teacher = teacher
        self._distillation = distillation
        self._names = {key: network.layer_of(key) for key in network.weights()}
        method.check(self._names)
        self._masked = False

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Weights decay, vectors do not."""
        return decayed_apart(self.module.parameters(), weight_decay)

    def loss(self, x: Tensor, y: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """The mean over the batch; chooses masks first, where the schedule says so."""
        if self._schedule.updates_at(step, steps) or not self._masked:
            # after a resumption the masks are those of the weights that it found
            self._masked = True
            self.choose(self._schedule.share(step, steps))
        elif step > self._schedule.last(steps):
            self._network.rest()
        outputs = self._network(x)
        loss = self._distillation.loss(
            self._task, outputs, y, self._label_smoothing, lambda: self._teacher(x)
        )
        return loss, outputs

    def choose(self, share: float) -> None:
        """Put the masks on that leave, of what is to go, `share` out."""
        self._network.mask(self._method.masks(self._network.weights(), self._names, share))

    def settled(self, step: int, steps: int) -> bool:
        """Early stopping waits until all masks rest."""
        return step == steps or step > self._schedule.last(steps)
