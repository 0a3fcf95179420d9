"""Convolutions in groups of channels: one step of the engine each, and how groups share its vectors.

A vector has 16 output channels, and a product of four takes the same four levels in all of them, so that
groups of few channels leave lanes empty. There are three ways to fill them:

- `UNITS`: groups one after the other, several of them joined, with weights of zero (their zero points)
  between them: j groups of I input and O output channels take ``⌈jO/16⌉·⌈jI/4⌉`` products a place;
- `LANES`: each lane gets its own group's levels, of 16 bytes that lie together in memory, where 16 output
  channels read no more: ``⌈I/4⌉`` products a place for 16 output channels;
- `DEPTHWISE`: four rows of the kernel are a product, where a group has one input channel; it is copied
  beforehand as often as the group has output channels.

What takes least is chosen, in products of four, by constants measured on an EPYC (Zen 4), where AVX-512 and
AVX2 agree.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.planner import Pins
from stages.backends.native_kernels.weights import DOT, VECTOR, pack
from stages.integer.program import Op

BYTES = 16
"""Input channels that lanes choose from."""

MOST_JOINED = 16

FINISHING, OWN_LEVELS, COLUMN = 8, 1.75, 3
"""Products that take as long as bringing a vector of accumulators to levels; as one product of which each
lane has its own levels; as a depthwise one, for which four rows' levels are interleaved."""

COPYING = {1: 0, 2: 4}
"""Products that take as long as 16 levels' copies, by how many of each there are."""
COPYING_MORE = 16

# What source/depthwise.h has room for.
MOST_DEPTHWISE_ROWS = 8
MOST_DEPTHWISE_COLUMNS = 128
DEPTHWISE_PIXELS = 16

RATIOS = ("multiplier", "shift", "ratio")


class GroupedBy(Enum):
    """How a convolution's groups share vectors."""

    UNITS = "units"
    LANES = "lanes"
    DEPTHWISE = "depthwise"


@dataclass(frozen=True)
class GroupShape:
    """A convolution's groups, ``inputs`` to ``outputs`` channels each, and their window."""

    groups: int
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, op: Op) -> GroupShape:
        """A conv2d's, or a linear layer's, which has one group."""
        weight, groups = op.tensors["weight"], op.attrs.get("groups", 1)
        pairs = (op.attrs.get(name, (1, 1)) for name in ("stride", "dilation"))
        kernel = weight.shape[2:] or (1, 1)
        return cls(groups, weight.shape[1], len(weight) // groups, kernel, *map(tuple, pairs))

    @property
    def vectors(self) -> int:
        """How many all output channels fill."""
        return -(-self.groups * self.outputs // VECTOR)

    @property
    def places(self) -> int:
        """Pixels of the window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def depthwise_pixels(self) -> int:
        """Most output pixels whose windows span no more columns than source/depthwise.h keeps."""
        room = MOST_DEPTHWISE_COLUMNS - (self.kernel[1] - 1) * self.dilation[1] - 1
        return min(DEPTHWISE_PIXELS, room // self.stride[1] + 1) if room >= 0 else 0

    def joined(self) -> int:
        """How many groups to join, a divisor of them."""
        divisors = (j for j in range(1, min(self.groups, MOST_JOINED) + 1) if self.groups % j == 0)
        return min(divisors, key=lambda j: (self._units(j), j))

    def by(self, *, zero_points: bool) -> GroupedBy:
        """The way that takes least; of weights with zero points, all levels of which a sum is needed."""
        takes: dict[GroupedBy, float] = {GroupedBy.UNITS: self._units(self.joined())}
        few = VECTOR % self.outputs == 0 and VECTOR // self.outputs * self.inputs <= BYTES
        if self.groups > 1 and few and not zero_points:
            dots = self.places * -(-self.inputs // DOT)
            takes[GroupedBy.LANES] = self.vectors * (OWN_LEVELS * dots + FINISHING)
        fits = self.kernel[0] <= MOST_DEPTHWISE_ROWS and self.depthwise_pixels > 0
        if self.groups > 1 and self.inputs == 1 and fits:
            dots = self.kernel[1] * -(-self.kernel[0] // DOT)
            copies = self.stride[0] * self.stride[1] * COPYING.get(self.outputs, COPYING_MORE)
            takes[GroupedBy.DEPTHWISE] = self.vectors * (COLUMN * dots + FINISHING + copies)
        return min(takes, key=takes.__getitem__)

    def _units(self, j: int) -> int:
        vectors = self.groups // j * -(-j * self.outputs // VECTOR)
        return vectors * (self.places * -(-j * self.inputs // DOT) + FINISHING)


def join(shape: GroupShape, weight: NDArray[np.int64], zero_point: NDArray[np.int64]) -> NDArray[np.int64]:
    """(G·O, I, kH, kW) as dense weights (G/j, j·O, j·I, kH, kW) of j joined groups.

    Args:
        shape: of the groups.
        weight: levels.
        zero_point: (G·O,), what stands for 0 between groups.
    """
    j, kernel = shape.joined(), weight.shape[2:]
    split = weight.reshape(-1, j, shape.outputs, shape.inputs, *kernel)
    dense = np.empty((*split.shape[:3], j, shape.inputs, *kernel), np.int64)
    dense[:] = zero_point.reshape(*split.shape[:3], 1, 1, 1, 1)
    for group in range(j):
        dense[:, group, :, group] = split[:, group]
    return dense.reshape(shape.groups // j, j * shape.outputs, j * shape.inputs, *kernel)


def lanes(shape: GroupShape, weight: NDArray[np.int64], pins: Pins) -> tuple[tuple[str, Any], ...]:
    """Fields of the step in which each lane has its own group's levels.

    Args:
        shape: of the groups.
        weight: (G·O, I, kH, kW), whose zero points are 0.
        pins: keeps the arrays.
    """
    dwords = -(-shape.inputs // DOT)
    channel = np.minimum(np.arange(dwords * DOT), shape.inputs - 1).reshape(dwords, 1, DOT)
    places = np.arange(VECTOR).reshape(1, VECTOR, 1) // shape.outputs * shape.inputs + channel
    vectors = [pack(weight[first : first + VECTOR]) for first in range(0, len(weight), VECTOR)]
    return (
        ("channels", dwords * DOT),
        ("sum_channels", VECTOR // shape.outputs * shape.inputs),
        ("target_channels", len(weight)),
        ("weight", pins(np.concatenate(vectors), ctypes.c_int8)),
        ("table", pins(places, ctypes.c_uint8)),
    )


def by_vectors(a: NDArray[Any], count: int) -> NDArray[Any]:
    """(count·O,) with zeros behind each O, up to whole vectors."""
    split = a.reshape(count, -1)
    return np.pad(split, ((0, 0), (0, -split.shape[1] % VECTOR))).reshape(-1)


def ratios_by_vectors(op: Op, count: int) -> dict[str, NDArray[Any]]:
    """The operator's constants; its own ratios as `by_vectors`, where channels have their own."""
    return {
        name: by_vectors(a, count) if name in RATIOS and a.size > 1 else a for name, a in op.tensors.items()
    }
