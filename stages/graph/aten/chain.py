"""Several nodes for one call, each over the value of the one before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stages.graph.aten.call import Call, Param
from stages.graph.ir import Node


class Chain:
    """Nodes that a call becomes: `then` appends one, and `result` is what a translation gives.

    All nodes but the last are emitted, so that branches of a call may each be a chain: `name` ends a branch.
    Steps that change nothing are left out.

    Args:
        call: whose nodes they are.
        name: of the value that the first reads.
        shape: of one sample of that value.
    """

    def __init__(self, call: Call, name: str, shape: Sequence[int]) -> None:
        self._call, self._name, self.shape = call, name, tuple(shape)
        self._pending: Node | None = None

    @classmethod
    def over(cls, call: Call, position: int = 0) -> Chain:
        """A chain over an argument that is a value."""
        return cls(call, call.value(position), call.input_shape(position))

    @classmethod
    def constant(cls, call: Call, param: Param) -> Chain:
        """A chain over a constant, whose tensor is one sample."""
        return cls(call, call.emit(call.constant(param, tuple(param.tensor.shape))), param.tensor.shape)

    @property
    def name(self) -> str:
        """The name of the last value; emits its node."""
        if self._pending is not None:
            self._name, self._pending = self._call.emit(self._pending), None
        return self._name

    def then(
        self,
        op: str,
        shape: Sequence[int],
        /,
        *others: str,
        params: dict[str, str] | None = None,
        **attrs: Any,
    ) -> Chain:
        """Append an operator that reads the last value, and the values `others` after it."""
        inputs = (self.name, *others)
        self.shape = tuple(shape)
        self._pending = Node(
            name="", op=op, inputs=inputs, attrs=attrs, params=params or {}, shape=self.shape
        )
        return self

    def reshape(self, shape: Sequence[int]) -> Chain:
        """The same elements in another shape, in which one size may be −1."""
        sizes = list(shape)
        if -1 in sizes:
            sizes[sizes.index(-1)] = math.prod(self.shape) // -math.prod(sizes)
        if tuple(sizes) == self.shape:
            return self
        return self.then("reshape", sizes, shape=tuple(sizes))

    def permute(self, axes: Sequence[int]) -> Chain:
        """Dimensions in another order."""
        if list(axes) == sorted(axes):
            return self
        return self.then("permute", [self.shape[axis] for axis in axes], axes=tuple(axes))

    def take(self, axis: int, indices: Sequence[int]) -> Chain:
        """Entries along an axis, by index."""
        chosen, shape = tuple(int(i) for i in indices), self.shape
        if chosen == tuple(range(shape[axis])):
            return self
        return self.then("take", (*shape[:axis], len(chosen), *shape[axis + 1 :]), axis=axis, indices=chosen)

    def expand(self, shape: Sequence[int]) -> Chain:
        """Repeat sizes of 1; dimensions are added in front. Raises ValueError where sizes do not fit."""
        self.reshape((*[1] * (len(shape) - len(self.shape)), *self.shape))
        for axis, (own, size) in enumerate(zip(self.shape, shape, strict=True)):
            if own not in (1, size):
                raise ValueError(f"expands {self.shape} to {tuple(shape)}, which does not fit")
            if own != size:
                self.take(axis, [0] * size)
        return self

    def result(self) -> Node | str:
        """The last node, which is not emitted, or the name of the value where nothing was done."""
        return self._name if self._pending is None else replace(self._pending, shape=self.shape)
