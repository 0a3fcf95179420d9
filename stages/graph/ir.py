"""A network as a list of nodes: the form in which it is folded, fused, simulated and lowered.

Each node computes one value from earlier ones, and the value bears the node's name. Operators form a
closed vocabulary (`stages.graph.operators`), much smaller than ATen's: what capture cannot express in it is
refused there, so that later passes need no "otherwise". Shapes are those of one sample; the batch dimension
is left out of attributes, and dimension numbers do not count it (channel is 0, height 1, width 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator.

    Args:
        name: the value's name: unique, and the module path where there is one (``layer1.0.conv1``).
        op: the name of an operator (`stages.graph.operators`).
        inputs: names of the values it reads.
        attrs: numbers, strings, None, and tuples of them.
        params: role → key into `Graph.params`: ``{"weight": "conv1.weight"}``.
        clamp_min: the lower bound, a real number, of a clamp that the node applies to what it computes; None
            for no bound. ReLU is 0.0. Operators that only move values have neither bound.
        clamp_max: the upper bound.
        shape: shape of the value for one sample.
        module: path of the module that the operator was traced from, for messages.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    clamp_min: float | None = None
    clamp_max: float | None = None
    shape: tuple[int, ...] = ()
    module: str = ""

    @property
    def clamps(self) -> bool:
        """Whether it has a bound."""
        return self.clamp_min is not None or self.clamp_max is not None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in execution order, the first an ``input``; the value named `output` is the result.

    Parameters whose keys are in `frozen` stay as they are in training. Nodes may share a parameter. Those
    whose keys are in `pruned` have a mask, which is where they are not 0: what comes later keeps their zeros.
    """

    nodes: tuple[Node, ...]
    params: Mapping[str, Tensor]
    output: str
    frozen: frozenset[str] = frozenset()
    pruned: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Node:
        """The node that computes the value `name`."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _users(self) -> Mapping[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return found

    @property
    def input(self) -> Node:
        """The node of the network's input."""
        return self.nodes[0]

    def users(self, name: str) -> list[Node]:
        """The nodes that read the value `name`, in order."""
        return list(self._users.get(name, ()))

    def param(self, node: Node, role: str) -> Tensor | None:
        """A node's parameter by role, or None where it has none (a convolution without bias)."""
        key = node.params.get(role)
        return None if key is None else self.params[key]

    def roles(self, node: Node) -> dict[str, Tensor]:
        """A node's parameters by role."""
        return {role: self.params[key] for role, key in node.params.items()}

    def mask(self, key: str) -> Tensor | None:
        """Where a pruned parameter may differ from 0, bool, its shape; None for one that is not pruned."""
        return self.params[key] != 0 if key in self.pruned else None

    def with_params(self, params: Mapping[str, Tensor]) -> Graph:
        """The same nodes over other values of (some of) the parameters."""
        return replace(self, params={**self.params, **params})
