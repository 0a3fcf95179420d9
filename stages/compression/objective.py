"""Training that prunes: a loss, and masks that follow a schedule."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stages.compression.magnitude import Magnitude
from stages.compression.schedule import PruningSchedule
from stages.training.float_network import FloatNetwork
from stages.training.objective import Objective


class PruningObjective:
    """The loss of a network whose masks are chosen as it trains.

    Args:
        network: what is trained.
        method: which weights stay.
        schedule: when the others go.
        inner: the network's loss.
    """

    def __init__(
        self, network: FloatNetwork, method: Magnitude, schedule: PruningSchedule, inner: Objective
    ) -> None:
        self.module: nn.Module = network
        self._network = network
        self._method = method
        self._schedule = schedule
        self._inner = inner
        self._names = {key: network.layer_of(key) for key in network.weights()}
        method.check(self._names)
        self._masked = False

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Those of the loss within."""
        return self._inner.parameter_groups(weight_decay)

    def loss(self, x: Tensor, y: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """The mean over the batch; chooses masks first, where the schedule says so."""
        if self._schedule.updates_at(step, steps) or not self._masked:
            # after a resumption the masks are those of the weights that it found
            self._masked = True
            self.choose(self._schedule.share(step, steps))
        elif step > self._schedule.last(steps):
            self._network.rest()
        return self._inner.loss(x, y, step, steps)

    def choose(self, share: float) -> None:
        """Put the masks on that leave, of what is to go, `share` out."""
        self._network.mask(self._method.masks(self._network.weights(), self._names, share))

    def settled(self, step: int, steps: int) -> bool:
        """Early stopping waits until all masks rest."""
        return step == steps or step > self._schedule.last(steps)
