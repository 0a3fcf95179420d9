"""What quantization-aware training minimizes, and when which part of it moves.

    ``loss = (1 − d) · L(z, y) + d · D(z, t, T) + penalty``

with outputs z, those of the float network t as teacher, d the weight of distillation and T its temperature.
L is the task's loss and D its divergence; in classification cross-entropy and
``T² · KL(softmax(t/T) ‖ softmax(z/T))`` (Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stages.tasks.base import Task
from stages.training.objective import decayed_apart
from stages.training.qat_layer import BatchNorm, Phase
from stages.training.qat_network import QatNetwork
from stages.training.ranks import ProcessGroup


@dataclass(frozen=True, kw_only=True)
class QatSchedule:
    """When rounding begins and what rests when; all as shares of the training's steps.

    Args:
        delay: train in float until then, while ranges are observed.
        freeze_observers: observed ranges rest from then on. 0 keeps the calibrated ones.
        freeze_batch_norm: BatchNorm uses its moving statistics from then on, which rest.
        batch_norm: until then, ``corrected`` folding by the moving statistics, or ``naive`` folding by the
            batch's, for comparison; ``frozen`` uses the moving statistics from the start.
    """

    delay: float = 0.0
    freeze_observers: float = 0.5
    freeze_batch_norm: float = 0.5
    batch_norm: BatchNorm = "corrected"

    def __post_init__(self) -> None:
        if not 0.0 <= self.delay < 1.0:
            raise ValueError(
                f"delay={self.delay}: must be in [0, 1), a share of all steps; at 1 nothing would be trained "
                "with rounding"
            )
        if not 0.0 <= self.freeze_observers < 1.0:
            raise ValueError(
                f"freeze_observers={self.freeze_observers}: must be in [0, 1), a share of all steps; at 1 "
                "the network would be converted while its scales still move. Remedy: freeze_observers=0.5"
            )
        naive = self.batch_norm == "naive"
        if not (0.0 <= self.freeze_batch_norm < 1.0 or (naive and self.freeze_batch_norm == 1.0)):
            raise ValueError(
                f"freeze_batch_norm={self.freeze_batch_norm}: must be in [0, 1), a share of all steps; at 1 "
                "the network would be converted to statistics that it was never trained with. Remedy: "
                "freeze_batch_norm=0.5; only batch_norm=naive may do without, to show what comes of it"
            )

    def first(self, steps: int) -> int:
        """The first step with rounding."""
        return int(self.delay * steps)

    def phase(self, step: int, steps: int) -> Phase:
        """What the step does."""
        return Phase(
            quantize=step >= self.first(steps),
            observe=step < int(self.freeze_observers * steps),
            batch_statistics=self.batch_norm != "frozen" and step < int(self.freeze_batch_norm * steps),
        )

    def settled(self, step: int, steps: int) -> bool:
        """Whether everything that freezes has done so, and rounding has begun, before `step`."""
        return step == steps or self.phase(step, steps) == Phase()


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """How much the float network teaches.

    Args:
        weight: d above, in [0, 1]; 0 for none.
        temperature: T above, > 0.
    """

    weight: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError(f"weight={self.weight}: must be a share, 0..1")
        if not self.temperature > 0.0:
            raise ValueError(f"temperature={self.temperature}: must be positive")

    def loss(
        self,
        task: Task,
        outputs: Tensor,
        y: Tensor,
        label_smoothing: float,
        teacher: Callable[[], Tensor],
    ) -> Tensor:
        """The mean over the batch of what labels and teacher say, shape (); asks either where it counts."""
        loss = torch.zeros(())
        if self.weight < 1.0:  # labels may be none that the task can learn from
            loss = task.loss(outputs, y, label_smoothing)
        if self.weight:
            with torch.no_grad():
                target = teacher()
            divergence = task.divergence(outputs, target, self.temperature)
            loss = torch.lerp(loss.to(divergence), divergence, self.weight)
        return loss


class QatObjective:
    """The loss of a `QatNetwork` in training.

    Args:
        network: what is trained.
        schedule: when what moves.
        quantizer_rate: learning rate of the estimator's parameters over that of the others.
        label_smoothing: in [0, 1).
        teacher: the float network, x to outputs; asked only where `distillation` has a weight.
        distillation: how much it teaches.
        task: what is learned.
    """

    def __init__(
        self,
        network: QatNetwork,
        schedule: QatSchedule,
        *,
        quantizer_rate: float = 1.0,
        label_smoothing: float = 0.0,
        teacher: Callable[[Tensor], Tensor],
        distillation: Distillation,
        task: Task,
    ) -> None:
        self.module: nn.Module = network
        self._network = network
        self._schedule = schedule
        self._quantizer_rate = quantizer_rate
        self._label_smoothing = label_smoothing
        self._teacher = teacher
        self._distillation = distillation
        self._task = task
        self._group: ProcessGroup | None = None

    def divide(self, group: ProcessGroup) -> None:
        """Observe ranges, and choose starting ones, over all ranks' samples."""
        self._group = group
        self._network.observe_with(group.extremes)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Weights; biases and BatchNorm; what estimators learn, which does not decay either."""
        learned = set(self._network.estimated())
        others = decayed_apart((p for p in self.module.parameters() if p not in learned), weight_decay)
        quantizers = [p for p in self.module.parameters() if p in learned]
        return [*others, {"params": quantizers, "weight_decay": 0.0, "rate": self._quantizer_rate}]

    def loss(self, x: Tensor, y: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """See the module's equation; sets the network's phase."""
        self._network.phase = replace(self._schedule.phase(step, steps), draw=step + 1)
        if step == self._schedule.first(steps):
            self._initialize(x)
        outputs = self._network(x)
        loss = self._distillation.loss(
            self._task, outputs, y, self._label_smoothing, lambda: self._teacher(x)
        )
        return loss + self._network.penalty(), outputs

    def _initialize(self, x: Tensor) -> None:
        """Let the estimators choose from a batch: what they choose are means, so that ranks' are weighted."""
        self._network.initialize(x)
        if self._group is None:
            return
        with torch.no_grad():
            learned = list(self._network.estimated())
            parts = [parameter.reshape(-1) * len(x) for parameter in learned]
            sums = self._group.add(torch.cat([*parts, x.new_tensor([len(x)])]))
            means = torch.split(sums[:-1] / sums[-1], [parameter.numel() for parameter in learned])
            for parameter, mean in zip(learned, means, strict=True):
                parameter.copy_(mean.view_as(parameter))

    def settled(self, step: int, steps: int) -> bool:
        """Early stopping waits for everything that freezes."""
        return self._schedule.settled(step, steps)
