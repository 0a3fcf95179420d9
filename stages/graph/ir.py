"""A network as a list of nodes: the form in which it is folded, fused, simulated and lowered.

Each node computes one value from earlier ones, and the value bears the node's name. Operators form a
closed vocabulary (`OPERATORS`), much smaller than ATen's: what capture cannot express in it is refused
there, so that later passes need no "otherwise". Shapes are those of one sample; the batch dimension is
left out of attributes, and dimension numbers do not count it (channel is 0, height 1, width 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

OPERATORS: Mapping[str, str] = {
    "input": "the network's input",
    "conv2d": "stride, padding, dilation, groups; weight (O, I/groups, kH, kW), bias (O,)",
    "linear": "over the last dimension; weight (O, I), bias (O,)",
    "batch_norm": "eps; params weight, bias, running_mean, running_var, each (C,)",
    "add": "two inputs",
    "concat": "axis; n inputs",
    "max_pool2d": "kernel, stride, padding, dilation, ceil_mode",
    "avg_pool2d": "kernel, stride, padding (zeros counted)",
    "table": "steps: element-wise functions, one after the other (`stages.graph.functions`)",
    "multiply": "scale, a factor > 0; two inputs whose shapes broadcast",
    "mean": "axes (ascending), keepdim",
    "matmul": "scale, a factor > 0; two inputs (…, I, K) and (…, K, J)",
    "softmax": "axis",
    "layer_norm": "eps; over the last dimension; params gamma, beta, each (C,)",
    "constant": "param value, one sample; the input, which it reads, says how many",
    "clamp": "clamp_min, clamp_max: real bounds, either may be None (ReLU: 0.0 and None)",
    "reshape": "shape of one sample; flatten is a reshape",
    "pad": "pads ((before, after) a dimension), with zeros",
    "permute": "axes: dimension i of the result is the input's axes[i]",
    "upsample_nearest": "factor, two integers",
    "insert_zeros": "factor, two integers: zeros between rows and columns, for transposed convolutions",
    "slice": "starts, ends, steps, one a dimension",
}
"""Operator name → its attributes. Those that compute (`stages.graph.fuse.REQUANTIZING`) may also carry
a fused clamp (clamp_min, clamp_max), and `conv2d` and `linear` a second input: a residual that is added
before the clamp."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator.

    Args:
        name: the value's name: unique, and the module path where there is one (``layer1.0.conv1``).
        op: a key of `OPERATORS`.
        inputs: names of the values it reads.
        attrs: numbers, strings, None, and tuples of them.
        params: role → key into `Graph.params`: ``{"weight": "conv1.weight"}``.
        shape: shape of the value for one sample.
        module: path of the module that the operator was traced from, for messages.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    module: str = ""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in execution order, the first an ``input``; the value named `output` is the result."""

    nodes: tuple[Node, ...]
    params: Mapping[str, Tensor]
    output: str

    def __getitem__(self, name: str) -> Node:
        """The node that computes the value `name`."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def input(self) -> Node:
        """The node of the network's input."""
        return self.nodes[0]

    def users(self, name: str) -> list[Node]:
        """The nodes that read the value `name`, in order."""
        return [node for node in self.nodes if name in node.inputs]

    def param(self, node: Node, role: str) -> Tensor | None:
        """A node's parameter by role, or None where it has none (a convolution without bias)."""
        key = node.params.get(role)
        return None if key is None else self.params[key]

    def with_params(self, params: Mapping[str, Tensor]) -> Graph:
        """The same nodes over other values of (some of) the parameters."""
        return replace(self, params={**self.params, **params})
