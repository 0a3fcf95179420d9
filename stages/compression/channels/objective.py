"""Training that prunes channels: a loss, and masks of channels that follow a schedule."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stages.compression.channels.coupling import couple
from stages.compression.channels.narrowing import masks_of
from stages.compression.channels.scores import unit_scores
from stages.compression.channels.selection import ChannelSelection
from stages.compression.schedule import PruningSchedule
from stages.training.float_network import FloatNetwork
from stages.training.objective import Objective


class ChannelObjective:
    """The loss of a network whose channels are chosen as it trains.

    A channel that has gone is 0, and no gradient reaches its filter; it is among those that are chosen from
    the next time.

    Args:
        network: what is trained.
        method: which channels stay.
        schedule: when the others go.
        inner: the network's loss.

    Raises:
        PipelineError: `method` does not fit the network.
    """

    def __init__(
        self, network: FloatNetwork, method: ChannelSelection, schedule: PruningSchedule, inner: Objective
    ) -> None:
        self.module: nn.Module = network
        self._network = network
        self._method = method
        self._schedule = schedule
        self._inner = inner
        graph = network.graph()
        self.coupling = couple(graph)
        self._widths = method.widths(graph, self.coupling)
        network.open_gates(masks_of(graph, self.coupling, self.coupling.free))
        self.choose(1.0)  # raises at once where it cannot be done
        network.gate({})
        self._started = False

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Those of the loss within."""
        return self._inner.parameter_groups(weight_decay)

    def loss(self, x: Tensor, y: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """The mean over the batch; chooses channels first, where the schedule says so."""
        if not self._started:  # perhaps where a killed training had come to
            self._started = True
            self._network.gate(self._network.gates())
        if self._schedule.updates_at(step, steps):
            self.choose(self._schedule.share(step, steps))
        return self._inner.loss(x, y, step, steps)

    def choose(self, share: float) -> None:
        """Mask the channels that go when `share` of what is to go has gone."""
        graph = self._network.graph()
        scores = unit_scores(graph, self.coupling, self._method.score)
        gone = self._method.choose(graph, self.coupling, self._widths, scores, share)
        self._network.gate(masks_of(graph, self.coupling, gone))

    def gone(self) -> frozenset[int]:
        """The units whose channels are masked."""
        return frozenset(
            int(unit)
            for name, gate in self._network.gates().items()
            for unit in self.coupling.channels[name].ids[(gate.flatten() == 0.0).cpu().numpy()]
        )

    def settled(self, step: int, steps: int) -> bool:
        """Early stopping waits until all masks rest."""
        return step == steps or step > self._schedule.last(steps)
