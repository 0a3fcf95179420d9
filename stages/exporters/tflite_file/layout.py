"""Where a value's elements lie in a TFLite file, whose images are (N, H, W, C) where ours are (N, C, H, W).

A tensor of the file is the value's sample, in row-major order as the program has it, seen in `sizes`, with
its dimensions in the order `order`. A permutation is then but another name of the same tensor, and the
flattening of an image leaves its elements in place: the layer that reads them has its weights reordered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

IMAGE = (1, 2, 0)
"""The order of (C, H, W) in a file."""


@dataclass(frozen=True, kw_only=True)
class TensorLayout:
    """A layout of one sample.

    Args:
        sizes: the sample's elements in row-major order of the program; their product is the sample's size.
        order: which of `sizes` each dimension of the tensor is.
        flat: whether the tensor has a single dimension, with the elements of that order.
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    flat: bool = False

    @classmethod
    def plain(cls, shape: Sequence[int]) -> Self:
        """As the program has it."""
        return cls(sizes=tuple(shape), order=tuple(range(len(shape))))

    @classmethod
    def usual(cls, shape: Sequence[int]) -> Self:
        """What TFLite expects of a network's input and output: images with channels last."""
        return cls(sizes=tuple(shape), order=IMAGE) if len(shape) == 3 else cls.plain(shape)

    @property
    def permuted(self) -> tuple[int, ...]:
        """`sizes` in the tensor's order."""
        return tuple(self.sizes[axis] for axis in self.order)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape of one sample."""
        return (math.prod(self.sizes),) if self.flat else self.permuted

    @property
    def in_order(self) -> bool:
        """Whether the elements lie in the program's order: dimensions of size 1 do not matter."""
        long = [axis for axis in self.order if self.sizes[axis] != 1]
        return long == sorted(long)

    def axis(self, axis: int) -> int:
        """The tensor's dimension, the batch counted, that the program's dimension `axis` is."""
        return self.order.index(axis) + 1

    def to_file(self, plain: NDArray[Any]) -> NDArray[Any]:
        """(N, *shape of the program) to (N, *shape of the tensor)."""
        seen = plain.reshape(len(plain), *self.sizes).transpose(0, *(axis + 1 for axis in self.order))
        return np.ascontiguousarray(seen).reshape(len(plain), *self.shape)

    def from_file(self, stored: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
        """(N, *shape of the tensor) to (N, *shape), the program's."""
        back = np.argsort(self.order)
        seen = stored.reshape(len(stored), *self.permuted).transpose(0, *(int(axis) + 1 for axis in back))
        return np.ascontiguousarray(seen).reshape(len(stored), *shape)

    def permute(self, axes: Sequence[int]) -> TensorLayout:
        """The same tensor as a value whose dimension i is this one's dimension ``axes[i]``."""
        place = {axis: i for i, axis in enumerate(axes)}
        sizes = tuple(self.sizes[axis] for axis in axes)
        return TensorLayout(sizes=sizes, order=tuple(place[axis] for axis in self.order))

    def reduce(self, axes: Sequence[int], keepdim: bool) -> TensorLayout:
        """The layout after a reduction along `axes` of the program."""
        if keepdim:
            return self.resize(dict.fromkeys(axes, 1))
        left = [axis for axis in range(len(self.sizes)) if axis not in axes]
        order = tuple(left.index(axis) for axis in self.order if axis in left)
        return TensorLayout(sizes=tuple(self.sizes[axis] for axis in left), order=order)

    def resize(self, sizes: dict[int, int]) -> TensorLayout:
        """The layout with other sizes of some of the program's dimensions."""
        new = tuple(sizes.get(axis, size) for axis, size in enumerate(self.sizes))
        return TensorLayout(sizes=new, order=self.order, flat=self.flat)

    def last(self, axis: int) -> TensorLayout:
        """The layout nearest to this one in which the program's dimension `axis` comes last."""
        return TensorLayout(sizes=self.sizes, order=(*(a for a in self.order if a != axis), axis))

    def merge(self, shape: Sequence[int]) -> TensorLayout | None:
        """The same elements as a value of `shape`, where each of its dimensions joins ones that lie together.

        None where the elements would have to move.
        """
        groups, start = [], 0
        for size in shape:
            end = start
            while end < len(self.sizes) and math.prod(self.sizes[start : end + 1]) <= size:
                end += 1
            if math.prod(self.sizes[start:end]) != size:
                return None
            groups.append(tuple(range(start, end)))
            start = end
        place = {group[0]: i for i, group in enumerate(groups) if group}
        order, walked = [], 0
        while walked < len(self.order):
            found = place.get(self.order[walked])
            if found is None or self.order[walked : walked + len(groups[found])] != groups[found]:
                return None
            order.append(found)
            walked += len(groups[found])
        order += [i for i, group in enumerate(groups) if not group]
        return TensorLayout(sizes=tuple(shape), order=tuple(order)) if start == len(self.sizes) else None
