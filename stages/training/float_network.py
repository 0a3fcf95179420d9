"""A graph in float training, with masks over its weights, or over channels of its values.

Nodes and parameters are those of the captured network, BatchNorm attached to its layers. A weight that has a
mask is ``w · m`` in the forward pass. The gradient of w is that of w · m, everywhere, or where m is 1:
gradients that reach what is pruned let it come back (Guo et al. 2016, arXiv 1608.04493), others do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.graph.execute import compute, execute
from stages.graph.fold import attach_batch_norm
from stages.graph.ir import Graph, Node
from stages.graph.operators.dropout import drop
from stages.graph.operators.layers import linear_map
from stages.graph.operators.registry import is_layer
from stages.training.qat_layer import batches_key
from stages.training.qat_start import tensors_of


class FloatNetwork(nn.Module):
    """A captured network as a module that trains.

    Args:
        model: as captured, BatchNorm not folded.
        regrow: whether gradients reach what masks hide.
    """

    def __init__(self, model: Graph, *, regrow: bool = False) -> None:
        super().__init__()
        self._graph = attach_batch_norm(model)
        self._regrow = regrow
        self._keys = {key: _escape(key) for key in tensors_of(self._graph)}
        self._masks: dict[str, Tensor] = {}
        self._gates: dict[str, str] = {}
        self._closed: frozenset[str] = frozenset()
        for key, tensor in tensors_of(self._graph).items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(self._keys[key], tensor)
            else:
                self.register_buffer(self._keys[key], tensor)

    def weights(self) -> dict[str, nn.Parameter]:
        """What may be pruned, by key in the graph: weights of layers that are trained, shared ones once."""
        keys = (node.params["weight"] for node in self._graph.nodes if is_layer(node))
        return {key: self._parameter(key) for key in keys if key not in self._graph.frozen}

    def layer_of(self, key: str) -> str:
        """The name of the first layer with that weight."""
        return next(n.name for n in self._graph.nodes if is_layer(n) and n.params["weight"] == key)

    def mask(self, masks: Mapping[str, Tensor]) -> None:
        """Put masks, bool, on weights, by key; what they hide becomes 0 where it cannot come back."""
        self._masks = dict(masks)
        if not self._regrow:
            self.rest()

    def open_gates(self, gates: Mapping[str, Tensor]) -> None:
        """Give nodes, by name, a mask of ones that broadcasts to their value; it is saved as weights are."""
        for name, gate in gates.items():
            self._gates[name] = f"gate {_escape(name)}"
            self.register_buffer(self._gates[name], torch.ones_like(gate))

    def gates(self) -> dict[str, Tensor]:
        """The masks of values, 0 and 1, by the name of the node."""
        return {name: getattr(self, own) for name, own in self._gates.items()}

    def gate(self, masks: Mapping[str, Tensor]) -> None:
        """Multiply from now on the values of nodes that have a gate by masks, those of others by 1."""
        for name, gate in self.gates().items():
            gate.copy_(masks[name]) if name in masks else gate.fill_(1.0)
        self._closed = frozenset(masks)

    @torch.no_grad()
    def rest(self) -> None:
        """Make what masks hide 0: a momentum of before they were put on may have moved it."""
        for key, mask in self._masks.items():
            self._parameter(key).mul_(mask)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 (N, *input shape) to outputs."""
        graph = self._graph.with_params({key: self._value(key) for key in self._keys})

        def gated(node: Node, *operands: Tensor) -> Tensor:
            value = step(node, *operands)
            return value * getattr(self, self._gates[node.name]) if node.name in self._closed else value

        def step(node: Node, *operands: Tensor) -> Tensor:
            if node.op == "dropout":
                return drop(node, *operands) if self.training else operands[0]
            if not (is_layer(node) and "bn_mean" in node.params):
                return compute(graph, node, *operands)
            y = linear_map(
                node.attrs, operands[0], graph.roles(node)["weight"], graph.roles(node).get("bias")
            )
            return self._batch_norm(graph, node, y)

        return execute(graph, x, step=gated)

    def graph(self) -> Graph:
        """The network as it stands, on the CPU; weights with masks are pruned."""
        self.rest()
        keys = {key for node in self._graph.nodes for key in node.params.values()}
        params = {key: getattr(self, self._keys[key]).detach().cpu().clone() for key in keys}
        pruned = self._graph.pruned | frozenset(self._masks)
        return replace(self._graph, params=params, pruned=pruned)

    def _batch_norm(self, graph: Graph, node: Node, y: Tensor) -> Tensor:
        own = graph.roles(node)
        momentum = node.attrs["bn_momentum"]
        if self.training and momentum is None:  # the mean of all batches
            count = getattr(self, self._keys[batches_key(node)]).add_(1)
            momentum = 1.0 / float(count)
        return F.batch_norm(
            y,
            own["bn_mean"],
            own["bn_var"],
            own.get("bn_weight"),
            own.get("bn_bias"),
            training=self.training,
            momentum=momentum or 0.0,
            eps=node.attrs["bn_eps"],
        )

    def _parameter(self, key: str) -> nn.Parameter:
        found: nn.Parameter = getattr(self, self._keys[key])
        return found

    def _value(self, key: str) -> Tensor:
        tensor: Tensor = getattr(self, self._keys[key])
        if (mask := self._masks.get(key)) is None:
            return tensor
        hidden = tensor * mask
        return tensor + (hidden - tensor).detach() if self._regrow else hidden


def _escape(key: str) -> str:
    """torch allows no dots in the names of parameters."""
    return key.replace(".", "/")
