"""One ATen call as the translations see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stages.graph.ir import Node


class Ref(NamedTuple):
    """An argument that is a value of the graph."""

    name: str


class Param(NamedTuple):
    """An argument that is a parameter or buffer: its key and its tensor."""

    key: str
    tensor: Tensor


@dataclass(frozen=True)
class Call:
    """One ATen call: arguments with values as `Ref` and parameters as `Param`; shape of one output sample.

    `params` are the graph's; a translation may add to them what it derives from one (`derived`).
    """

    overload: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: tuple[int, ...]
    nodes: Mapping[str, Node]
    params: MutableMapping[str, Tensor]

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or keyword."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def value(self, position: int = 0) -> str:
        """The name of the value given as an argument; ValueError for a constant or parameter."""
        argument = self.args[position]
        if not isinstance(argument, Ref):
            raise ValueError("one operand is a constant; fold it into a neighbouring layer")
        return argument.name

    def input_shape(self, position: int = 0) -> tuple[int, ...]:
        """The shape of one sample of the value given as an argument."""
        name = self.value(position)
        if name not in self.nodes:
            raise ValueError("reads an unsupported operator's result")
        return self.nodes[name].shape

    def derived(self, param: Param, tensor: Tensor) -> Param:
        """A parameter in another form: one of its own, since other calls may use it as it is.

        Calls that derive the same share it, so that a layer which is called twice stays one.
        """
        key, count = f"{param.key}:1", 1
        while key in self.params and not _same(self.params[key], tensor):
            count += 1
            key = f"{param.key}:{count}"
        self.params.setdefault(key, tensor.contiguous())
        return Param(key, self.params[key])

    def constant(self, param: Param, shape: tuple[int, ...]) -> Node:
        """A parameter, of one sample or with a batch dimension of 1, as a value of `shape`."""
        tensor = param.tensor[0] if param.tensor.ndim > len(shape) else param.tensor
        value = self.derived(param, tensor.expand(shape).float())
        name = next(iter(self.nodes))
        return Node(name="", op="constant", inputs=(name,), params={"value": value.key}, shape=shape)

    def axis(self, dim: int) -> int:
        """A dimension number of the call, negative ones counted from the end, as one of a sample.

        Raises ValueError for the batch dimension.
        """
        axis = int(dim) % (len(self.input_shape()) + 1) - 1
        if axis < 0:
            raise ValueError("works along the batch dimension, which must stay as it is")
        return axis


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


PREVIOUS = "<previous>"
"""Among the inputs of a node in a chain: the value of the node before it."""

Translation = Callable[[Call], Node | tuple[Node, ...] | str]
"""From a call to a node (without name and shape, which capture fills in), a chain of them of which each reads
the one before (`PREVIOUS`, or no inputs at all), or the name of an existing value where the call changes
nothing. `ValueError` with the reason and the remedy for a variant that has no integer form."""


def pair(value: Any) -> tuple[int, int]:
    """An int or a list of one or two, as a pair (height, width)."""
    items = tuple(value) if isinstance(value, tuple | list) else (value,)
    first = int(items[0])
    return first, int(items[-1])


def params(**roles: Any) -> dict[str, str]:
    """The keys of those roles that are parameters: a missing bias has none."""
    return {role: param.key for role, param in roles.items() if isinstance(param, Param)}
