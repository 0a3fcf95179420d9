"""The program so far, while a file's operators are read: tensors become values, images with channels first.

A tensor (N, H, W, C) is a value (C, H, W); others are as they are, without the batch. What is flattened from
an image has the order (H, W, C) in the file; here it keeps (C, H, W), and the fully connected layer that
reads it has its columns in that order (`order`). Where something else reads it, `in_file_order` moves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.importers.tflite_file.contents import TfliteContents, TfliteOperator, TfliteTensor
from stages.integer.program import Op, Value
from stages.integer.ratios import rescaling

CHANNELS_FIRST = (2, 0, 1)
"""The dimensions of a sample (H, W, C) as (C, H, W)."""
CHANNELS_LAST = (1, 2, 0)

Pads = tuple[tuple[int, int], ...]
"""What lies before and after each dimension."""

ACTIVATIONS: Mapping[int, tuple[float | None, float | None]] = {
    0: (None, None),
    1: (0.0, None),  # RELU
    2: (-1.0, 1.0),  # RELU_N1_TO_1
    3: (0.0, 6.0),  # RELU6
}
"""``ActivationFunctionType`` by number: its bounds."""


@dataclass
class TfliteReader:
    """Values and operators so far."""

    contents: TfliteContents
    batch: int
    values: dict[str, Value] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    """By tensor that is computed: its value."""
    first: str = ""
    """The program's input."""
    order: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """By value that was flattened from an image: the image's (C, H, W)."""
    places: dict[int, tuple[Value, NDArray[np.int64]]] = field(default_factory=dict)
    """By int32 tensor: the value whose levels are places in a table, and what is added to them."""
    constants: dict[tuple[int, int], Value] = field(default_factory=dict)
    """By tensor, and dimensions of a sample: a constant that is a value."""
    filled: dict[int, tuple[Value, Pads, int]] = field(default_factory=dict)
    """By tensor that is a value with some level around it: the value, how much, the level."""

    def tensor(self, op: TfliteOperator, place: int, *, output: bool = False) -> TfliteTensor:
        """An operator's tensor. Raises ValueError where it has none there."""
        return self.contents.tensor(op, place, output=output)

    def constant(self, op: TfliteOperator, place: int) -> NDArray[Any]:
        """A constant input's numbers. Raises ValueError where it is computed."""
        tensor = self.tensor(op, place)
        if tensor.data is None:
            raise ValueError(f"{tensor} must be constant here")
        return tensor.data

    def read(self, op: TfliteOperator, place: int) -> Value:
        """The value of a computed input, in the file's order."""
        return self.in_file_order(self.as_it_is(op, place))

    def as_it_is(self, op: TfliteOperator, place: int) -> Value:
        """The value of a computed input; one flattened from an image in the order `order` says."""
        tensor = self.tensor(op, place)
        if tensor.data is not None:
            return self.constant_value(tensor, len(tensor.shape) - 1)
        return self.computed(tensor)

    def computed(self, tensor: TfliteTensor) -> Value:
        """The value of a tensor. Raises ValueError where nothing has computed it."""
        if tensor.index in self.filled and tensor.index not in self.names:
            self.names[tensor.index] = self._surrounded(*self.filled[tensor.index]).name
        if tensor.index not in self.names:
            raise ValueError(f"{tensor} is not computed before it is read")
        return self.values[self.names[tensor.index]]

    def _surrounded(self, x: Value, pads: Pads, level: int) -> Value:
        """A value with a level around it: constants, joined along one dimension after the other."""
        if level == x.zero_point:
            padded = [size + sum(pair) for size, pair in zip(x.shape, pads, strict=True)]
            return self.moved("pad", x, padded, {"pads": pads})
        for axis, around in enumerate(pads):
            parts, size = [x], sum(around)
            for place, count in enumerate(around):
                shape = tuple(count if i == axis else n for i, n in enumerate(x.shape))
                if count:
                    edge = self.new(f"{x.name}/edge", replace(x, shape=shape))
                    levels = np.full(shape, level, x.dtype)
                    self.append("constant", [self.values[self.first]], edge, None, {"levels": levels})
                    parts.insert(place * len(parts), edge)
            if size:
                shape = tuple(n + size if i == axis else n for i, n in enumerate(x.shape))
                joined = self.new(f"{x.name}/filled", replace(x, shape=shape))
                attrs = {"axis": axis, **activation(0, joined)}
                self.append("concat", parts, joined, attrs, rescaling([1.0] * len(parts)))
                x = joined
        return x

    def constant_value(self, tensor: TfliteTensor, rank: int) -> Value:
        """A constant as a value of `rank` dimensions, the same for each sample.

        Raises:
            ValueError: one that differs from sample to sample, or is not of 8 bits with one scale.
        """
        if (tensor.index, rank) in self.constants:
            return self.constants[tensor.index, rank]
        if tensor.data is None or self.first not in self.values:
            raise ValueError(f"{tensor} must be constant here, and not stand before the input")
        levels = tensor.data.reshape([1] * (rank + 1 - tensor.data.ndim) + list(tensor.shape))
        if levels.ndim == rank + 1 and len(levels) == self.batch and (levels == levels[:1]).all():
            levels = levels[:1]  # repeated for each sample
        if levels.ndim != rank + 1 or rank < 0 or levels.shape[0] != 1:
            raise ValueError(f"{tensor}: a constant of shape {tensor.shape} must broadcast to samples")
        like = _eight_bits(tensor, (levels[0].transpose(CHANNELS_FIRST) if rank == 3 else levels[0]).shape)
        y = self.new(tensor.name or f"tensor{tensor.index}", like)
        own = levels[0].transpose(CHANNELS_FIRST) if rank == 3 else levels[0]
        self.append("constant", [self.values[self.first]], y, None, {"levels": np.ascontiguousarray(own)})
        self.constants[tensor.index, rank] = y
        return y

    def in_file_order(self, value: Value) -> Value:
        """The value with what was flattened from an image as (H, W, C)."""
        if value.name not in self.order:
            return value
        image = self.moved("reshape", value, self.order[value.name], {"shape": self.order[value.name]})
        return self.flattened(self.channels_last(image), value.shape)

    def channels_last(self, image: Value) -> Value:
        """An image (C, H, W) as (H, W, C)."""
        return self._turned(image, CHANNELS_LAST)

    def channels_first(self, value: Value) -> Value:
        """(H, W, C) as an image (C, H, W)."""
        return self._turned(value, CHANNELS_FIRST)

    def _turned(self, value: Value, axes: tuple[int, ...]) -> Value:
        shape = tuple(value.shape[axis] for axis in axes)
        moving = [axis for axis in axes if value.shape[axis] > 1]
        if moving == sorted(moving):  # only dimensions of 1 change their places
            return self.flattened(value, shape)
        return self.moved("permute", value, shape, {"axes": axes})

    def plain(self, y: Value) -> Value:
        """The value that `turned_into` makes `y`: an image with channels last, else `y` itself."""
        if len(y.shape) != 3:
            return y
        return self.new(f"{y.name}/plain", replace(y, shape=tuple(y.shape[axis] for axis in CHANNELS_LAST)))

    def turned_into(self, plain: Value, y: Value) -> None:
        """Bring (H, W, C) into the image `y`."""
        if plain is not y:
            self.append("permute", [plain], y, {"axes": CHANNELS_FIRST})

    def flattened(self, value: Value, shape: Sequence[int]) -> Value:
        """The value in another shape; itself where it has it."""
        if tuple(shape) == value.shape:
            return value
        return self.moved("reshape", value, shape, {"shape": tuple(shape)})

    def moved(self, kind: str, x: Value, shape: Sequence[int], attrs: Mapping[str, Any]) -> Value:
        """A new value that `x` is moved to."""
        y = self.new(f"{x.name}/{kind}", replace(x, shape=tuple(shape)))
        self.ops.append(Op(op=kind, inputs=(x.name,), output=y.name, attrs=attrs))
        return y

    def new(self, name: str, like: Value) -> Value:
        """A further value, of a name that no other has."""
        unique, number = name, 1
        while unique in self.values:
            number += 1
            unique = f"{name}{number}"
        self.values[unique] = replace(like, name=unique)
        return self.values[unique]

    def value(self, tensor: TfliteTensor) -> Value:
        """The new value of a computed tensor. Raises ValueError unless it has 8 bits and one scale."""
        like = _eight_bits(tensor, self.sample(tensor))
        y = self.new(tensor.name or f"tensor{tensor.index}", like)
        self.names[tensor.index] = y.name
        return y

    def sample(self, tensor: TfliteTensor) -> tuple[int, ...]:
        """The shape of a sample in a tensor. Raises ValueError unless it begins with the batch."""
        shape = tensor.shape
        if not shape or shape[0] != self.batch:
            raise ValueError(f"{tensor} has shape {shape}: must begin with the batch, {self.batch}")
        return (shape[3], shape[1], shape[2]) if len(shape) == 4 else shape[1:]

    def alias(self, tensor: TfliteTensor, value: Value) -> None:
        """Let a tensor be a value that is there."""
        self.names[tensor.index] = value.name

    def append(
        self,
        kind: str,
        inputs: Sequence[Value],
        output: Value,
        attrs: Mapping[str, Any] | None = None,
        tensors: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """A further operator."""
        names = tuple(value.name for value in inputs)
        self.ops.append(
            Op(op=kind, inputs=names, output=output.name, attrs=attrs or {}, tensors=tensors or {})
        )


def _eight_bits(tensor: TfliteTensor, shape: tuple[int, ...]) -> Value:
    """A value without a name. Raises ValueError unless the tensor has 8 bits and one scale."""
    if tensor.dtype not in ("int8", "uint8"):
        raise ValueError(
            f"{tensor} is {tensor.dtype}: activations must be int8 or uint8. Remedy: quantize the "
            "network with integers throughout (int8 inputs and outputs, no 16x8)"
        )
    if len(tensor.scale) != 1:
        raise ValueError(f"{tensor} has {len(tensor.scale)} scales: activations must have one")
    info, zero_point = np.iinfo(tensor.dtype), int(tensor.zero_point[0])
    if not info.min <= zero_point <= info.max:
        raise ValueError(f"{tensor}: zero point {zero_point} must be within {info.min}..{info.max}")
    return Value(
        name="",
        shape=shape,
        scale=float(tensor.scale[0]),
        zero_point=zero_point,
        quant_min=int(info.min),
        quant_max=int(info.max),
    )


def activation(number: int, y: Value) -> dict[str, int]:
    """The bounds of a fused activation, in levels of the output. Raises ValueError for one that has none.

    A bound is rounded half away from zero in float32 (kernels/kernel_util.cc, CalculateActivationRange).
    """
    if number not in ACTIVATIONS:
        raise ValueError(f"activation {number}: must be none, RELU, RELU_N1_TO_1 or RELU6")
    low, high = ACTIVATIONS[number]
    return {
        "act_min": y.quant_min if low is None else max(y.quant_min, _level(low, y)),
        "act_max": y.quant_max if high is None else min(y.quant_max, _level(high, y)),
    }


def _level(real: float, y: Value) -> int:
    steps = float(np.float32(real) / np.float32(y.scale))
    return y.zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))


def axes_of(numbers: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes of a file's tensor of that rank, batch included, as axes of a sample in our layout."""
    axes = [int(n) + rank if n < 0 else int(n) for n in numbers]
    if any(not 0 < axis < rank for axis in axes):
        raise ValueError(f"axes {tuple(map(int, numbers))} of {rank} dimensions: must not be the batch's")
    return tuple(sorted({3: 0}.get(axis, axis) if rank == 4 else axis - 1 for axis in axes))
