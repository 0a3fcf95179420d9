"""A network on the way to its coupling: what the rules of operators read and write."""

from __future__ import annotations

from collections import Counter

import numpy as np

from stages.compression.channels.units import Channels, UnitIds, Units
from stages.graph.ir import Graph, Node


class Walk:
    """The channels of the values so far, and what joins them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.units = Units()
        self.values: dict[str, Channels] = {}
        self.sources: list[str] = []
        uses = Counter(key for node in graph.nodes for key in set(node.params.values()))
        self._shared = {key for key, count in uses.items() if count > 1}

    def operands(self, node: Node) -> list[Channels | None]:
        """The channels of what a node reads; None of a value that stays whole."""
        return [self.values.get(name) for name in node.inputs]

    def shares(self, node: Node) -> bool:
        """Whether another node has a parameter of it, which cannot be two widths."""
        return any(key in self._shared for key in node.params.values())

    def source(self, node: Node, axis: int, ids: UnitIds) -> Channels:
        """The channels of a node that a mask makes 0."""
        self.sources.append(node.name)
        return Channels(axis=axis, ids=ids, rest=np.zeros(len(ids)))

    def stay(self, found: Channels | None, reason: str, which: np.ndarray | None = None) -> None:
        """Let the channels of a value stay, or those of them that `which` says."""
        if found is not None:
            self.units.stay(found.ids if which is None else found.ids[which], reason)

    def adopt(self, name: str, axis: int) -> Channels | None:
        """The channels of a constant along the dimension that its one reader wants; None of other values."""
        node = self.graph[name]
        if node.op != "constant" or len(self.graph.users(name)) != 1 or self.shares(node):
            return None
        self.values[name] = self.source(node, axis, self.units.new(node.shape[axis]))
        return self.values[name]
