"""One ATen call as the translations see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.graph.aten.batch import Placement
from stages.graph.ir import Node


@dataclass(frozen=True)
class Ref:
    """An argument that is a value of the graph: its name, and where its samples lay and its dtype as traced.

    A graph holds whole numbers and truth values as reals.
    """

    name: str
    layout: Placement
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, eq=False)
class Param:
    """An argument that no sample decides: a parameter, a buffer, or what is computed of such.

    Its tensor has as many dimensions as were traced; of the one that held the batch, `batch_dim`, what one
    sample has is left, alike for all.
    """

    key: str
    tensor: Tensor
    batch_dim: int | None = None


@dataclass(frozen=True)
class SampleNumbers:
    """An argument that numbers the samples, ``arange(N)``, as an index into them: each takes its own.

    In the trace `leading` dimensions of 1 stand before the batch, and `following` behind it.
    """

    leading: int
    following: int


@dataclass(frozen=True)
class Call:
    """One ATen call: arguments with values as `Ref` and constants as `Param`; layout and dtype of its result.

    Dimension numbers in arguments are those of the trace; `axis` gives a sample's. `params` are the graph's;
    a translation may add to them what it derives from one (`derived`). `emit` adds a node and names it.
    """

    overload: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    layout: Placement
    dtype: torch.dtype
    nodes: Mapping[str, Node]
    params: MutableMapping[str, Tensor]
    emit: Callable[[Node], str]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample of the result."""
        return self.layout.sample

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or keyword."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def value(self, position: int = 0) -> str:
        """The name of the value given as an argument; ValueError for a constant or parameter."""
        return self._ref(position).name

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
        """A constant, broadcast against the result as traced, as a value of which one sample has `shape`."""
        tensor = param.tensor
        layout = self.layout
        if tensor.ndim > len(shape):
            dims = len(layout.shape) - layout.dim  # where the batch is, counted from the end
            tensor = tensor.squeeze(-dims) if layout.alone and dims <= tensor.ndim else tensor
            tensor = tensor.reshape(tensor.shape[tensor.ndim - len(shape) :])
        value = self.derived(param, tensor.expand(shape).float())
        name = next(iter(self.nodes))
        return Node(name="", op="constant", inputs=(name,), params={"value": value.key}, shape=shape)

    def operand(self, position: int) -> str:
        """The name of an argument that is a value, or a constant made one, with its own shape."""
        argument = self.args[position]
        if isinstance(argument, Param):
            return self.emit(self.constant(argument, self.shape))
        return self.value(position)

    def parameter(self, position: int = 1, what: str = "weight") -> Param:
        """The parameter given as an argument, ``what`` in messages; ValueError for a value."""
        argument = self.args[position]
        if not isinstance(argument, Param):
            raise ValueError(f"its {what} is computed; only a parameter can be quantized once")
        return argument

    def axis(self, dim: int, position: int = 0) -> int:
        """A dimension number of an argument, negative ones counted from the end, as one of a sample.

        Raises `RefusalError` for the batch dimension.
        """
        return self._ref(position).layout.axis(dim)

    def input_layout(self, position: int = 0) -> Placement:
        """Where the samples of the value given as an argument lie."""
        return self._ref(position).layout

    def input_dtype(self, position: int = 0) -> torch.dtype:
        """The dtype, in the trace, of the value given as an argument."""
        return self._ref(position).dtype

    def _ref(self, position: int) -> Ref:
        argument = self.args[position]
        if not isinstance(argument, Ref):
            raise ValueError("one operand is a constant; fold it into a neighbouring layer")
        return argument


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
