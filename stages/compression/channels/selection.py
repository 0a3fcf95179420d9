"""Which channels go: those of least score, until a budget is met.

Units whose channels the same layers write make a *width*, of which a multiple of `round_to` channels stays,
or none: kernels compute so many at a time. Hence channels go in bundles, the least first, and of all widths'
next bundles the one whose units have the least mean score. Every layer keeps `round_to` channels, or all of
fewer.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import gcd
from typing import Literal

from pipeline.errors import PipelineError
from stages.compression.channels.costs import Costs
from stages.compression.channels.coupling import Coupling
from stages.compression.channels.scores import Score
from stages.graph.ir import Graph
from stages.graph.operators.registry import is_layer


@dataclass(frozen=True, kw_only=True)
class Width:
    """Units that the same layers write.

    Args:
        layers: their names.
        units: in any order.
        channels: of a unit in a layer.
    """

    layers: tuple[str, ...]
    units: tuple[int, ...]
    channels: int

    def bundles(self, scores: Mapping[int, float], round_to: int) -> list[tuple[int, ...]]:
        """What may go, one after the other, the least first: a multiple stays without each."""
        step = round_to // gcd(round_to, self.channels)
        order = sorted(self.units, key=lambda unit: (scores[unit], unit))
        first = len(order) % step or step
        return [tuple(order[max(0, end - step) : end]) for end in range(first, len(order) + 1, step)]


@dataclass(frozen=True, kw_only=True)
class ChannelSelection:
    """Which channels stay.

    Args:
        keep: share that stays, in (0, 1].
        budget: of what: ``operations``, multiply-accumulates of the network; ``weights``, of the network;
            ``layer``: channels of each layer.
        score: see `stages.compression.channels.scores`.
        round_to: a multiple of so many channels stays, of those that the same layers write.
        stay: layers, by name or pattern (``*``, ``?``), that keep all channels that they write.
    """

    keep: float = 0.5
    budget: Literal["operations", "weights", "layer"] = "operations"
    score: Score = "l2"
    round_to: int = 16
    stay: list[str] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0:
            raise ValueError(f"keep={self.keep}: must be a share of {self.budget}, in (0, 1]")
        if self.round_to < 1:
            raise ValueError(f"round_to={self.round_to}: must be at least 1; 1 lets any number stay")

    def widths(self, graph: Graph, coupling: Coupling) -> tuple[Width, ...]:
        """All that may go. Raises `PipelineError` for a pattern of `stay` that no layer's name matches."""
        names = [node.name for node in graph.nodes if is_layer(node)]
        for pattern in self.stay or ():
            if not any(fnmatchcase(name, pattern) for name in names):
                raise PipelineError(
                    f"compression.narrow.method.stay: the pattern '{pattern}' matches no layer. Remedy: one "
                    f"of {', '.join(names)}, or a pattern of them"
                )
        writers: dict[int, dict[str, int]] = {unit: {} for unit in sorted(coupling.free)}
        for name in coupling.sources:
            for unit in coupling.channels[name].ids.tolist() if is_layer(graph[name]) else ():
                if unit in writers:
                    writers[unit][name] = writers[unit].get(name, 0) + 1
        found: dict[tuple[str, ...], list[int]] = {}
        for unit, own in writers.items():
            if not any(fnmatchcase(name, pattern) for name in own for pattern in self.stay or ()):
                found.setdefault(tuple(own), []).append(unit)
        return tuple(
            Width(layers=layers, units=tuple(units), channels=writers[units[0]][layers[0]])
            for layers, units in found.items()
        )

    def choose(
        self,
        graph: Graph,
        coupling: Coupling,
        widths: Sequence[Width],
        scores: Mapping[int, float],
        share: float = 1.0,
    ) -> frozenset[int]:
        """The units that are gone when `share`, 0..1, of what is to go has gone.

        Raises:
            PipelineError: more would have to go than may.
        """
        keep = 1.0 - (1.0 - self.keep) * share
        costs = Costs(graph, coupling, "weights" if self.budget == "weights" else "operations")
        bundles = [width.bundles(scores, self.round_to) for width in widths]
        gone: set[int] = set()
        if self.budget == "layer":
            for width, own in zip(widths, bundles, strict=True):
                left = len(width.units)
                for bundle in own:
                    left -= len(bundle)
                    if left < keep * len(width.units) or not costs.may_go(bundle, self.round_to):
                        break
                    costs.remove(bundle)
                    gone.update(bundle)
            return frozenset(gone)
        waiting = [(_mean(scores, own[0]), i, 0) for i, own in enumerate(bundles) if own]
        heapq.heapify(waiting)
        while costs.now > keep * costs.dense * (1.0 + 1e-9):
            if not waiting:
                raise PipelineError(self._unmet(costs.now / costs.dense, coupling))
            _, i, position = heapq.heappop(waiting)
            bundle = bundles[i][position]
            if not costs.may_go(bundle, self.round_to):
                continue
            costs.remove(bundle)
            gone.update(bundle)
            if position + 1 < len(bundles[i]):
                heapq.heappush(waiting, (_mean(scores, bundles[i][position + 1]), i, position + 1))
        return frozenset(gone)

    def _unmet(self, least: float, coupling: Coupling) -> str:
        stays = "; ".join(f"{name}: {why}" for name, why in list(coupling.stays.items())[:5])
        more = f" Channels stay of {stays}." if stays else ""
        return (
            f"compression.narrow.method.keep={self.keep:g}: at least {least:.3f} of {self.budget} stays with "
            f"round_to={self.round_to} and stay={self.stay or []}.{more} Remedy: a greater keep, a smaller "
            "round_to"
        )


def _mean(scores: Mapping[int, float], units: tuple[int, ...]) -> float:
    return sum(scores[unit] for unit in units) / len(units)
