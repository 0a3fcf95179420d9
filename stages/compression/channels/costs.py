"""What a network costs as channels go: multiply-accumulates of one sample, or weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import prod
from typing import Literal

from stages.compression.channels.coupling import Coupling
from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer

Cost = Literal["operations", "weights"]


class Costs:
    """The cost of a network, kept up to date while units go.

    A layer's is proportional to the channels that it writes and, unless it is grouped, to those that it
    reads; a product of matrices' to the channels of its value and of its sums.

    Args:
        graph: the network, all channels there.
        coupling: which go together.
        cost: multiply-accumulates of layers and products of matrices, or weights of layers.
    """

    def __init__(self, graph: Graph, coupling: Coupling, cost: Cost) -> None:
        self._sizes = {name: len(own.ids) for name, own in coupling.channels.items()}
        self._kept = dict(self._sizes)
        self._layers = {node.name for node in graph.nodes if is_layer(node)}
        self._places: dict[int, Counter[str]] = {unit: Counter() for unit in coupling.free}
        for name, own in coupling.channels.items():
            for unit in own.ids.tolist():
                if unit in self._places:
                    self._places[unit][name] += 1
        self._terms: list[tuple[float, tuple[str, ...]]] = []
        self._readers: dict[str, list[int]] = {}
        for node in graph.nodes:
            if is_layer(node) or (node.op == "matmul" and cost == "operations"):
                factors = tuple(name for name in _factors(node, coupling) if name in self._sizes)
                for name in factors:
                    self._readers.setdefault(name, []).append(len(self._terms))
                self._terms.append((_cost(graph, node, cost), factors))
        self.dense = sum(base for base, _ in self._terms)
        self.now = self.dense

    def may_go(self, units: Iterable[int], least: int) -> bool:
        """Whether without them too every layer writes `least` channels, or all of fewer; a value has one."""
        return all(
            self._kept[name] - count >= (min(least, self._sizes[name]) if name in self._layers else 1)
            for name, count in self._counts(units).items()
        )

    def remove(self, units: Iterable[int]) -> None:
        """Count without them from now on."""
        counts = self._counts(units)
        touched = {term for name in counts for term in self._readers.get(name, ())}
        self.now -= sum(map(self._term, touched))
        for name, count in counts.items():
            self._kept[name] -= count
        self.now += sum(map(self._term, touched))

    def _counts(self, units: Iterable[int]) -> Counter[str]:
        total: Counter[str] = Counter()
        for unit in units:
            total.update(self._places[unit])
        return total

    def _term(self, term: int) -> float:
        base, factors = self._terms[term]
        return base * prod(self._kept[name] / self._sizes[name] for name in factors)


def _factors(node: Node, coupling: Coupling) -> tuple[str, ...]:
    """The values whose channels a node's cost is proportional to."""
    if is_layer(node):
        return (node.name, node.inputs[0]) if node.attrs.get("groups", 1) == 1 else (node.name,)
    first = coupling.channels.get(node.inputs[0])
    summed = first is not None and first.axis == len(node.shape) - 1
    return (node.name, node.inputs[0]) if summed else (node.name,)


def _cost(graph: Graph, node: Node, cost: Cost) -> float:
    if node.op == "matmul":
        return float(prod(node.shape) * graph[node.inputs[0]].shape[-1])
    weight = graph.params[node.params["weight"]]
    return float(weight.numel() if cost == "weights" else prod(node.shape) * weight[0].numel())
