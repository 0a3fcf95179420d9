"""Values and nodes of a float file so far, images with channels first.

A tensor of four dimensions, (N, H, W, C) in the file, is a value (N, C, H, W); others are as they are. An
image that is flattened keeps (C, H, W), and the fully connected layer that reads it has its columns in that
order, as `stages.importers.tflite_file.reader` does for integers. The batch may be any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array
from stages.importers.tflite_file.contents import TfliteContents, TfliteOperator, TfliteTensor
from stages.importers.tflite_file.reader import CHANNELS_FIRST, CHANNELS_LAST

CLIPS: Mapping[int, tuple[float, float]] = {2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""Bounds of a fused RELU_N1_TO_1 and RELU6, by number of ``ActivationFunctionType``."""

RELU, TANH = 1, 4
FLOATS = ("float32", "float16", "float64")


@dataclass(frozen=True, kw_only=True)
class FloatValue:
    """What a tensor is in the network: its name there, and the shape of a sample, images (C, H, W)."""

    name: str
    shape: tuple[int, ...]


FloatOperand = FloatValue | Array | None


@dataclass
class FloatReader:
    """Values and nodes so far.

    Args:
        contents: of the file.
        batch: samples that the file was made for.
    """

    contents: TfliteContents
    batch: int
    nodes: list[OnnxNode] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    values: dict[int, FloatValue] = field(default_factory=dict)
    """By tensor that is computed."""
    beforehand: dict[int, Array] = field(default_factory=dict)
    """By tensor that is computed from constants alone: its numbers, in the file's layout."""
    order: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """By value that was flattened from an image: the image's (C, H, W)."""
    rounded: list[str] = field(default_factory=list)
    """Constants whose levels were brought back to floats."""
    names: set[str] = field(default_factory=set)
    """What bears a name: values and constants."""

    def tensor(self, op: TfliteOperator, place: int, *, output: bool = False) -> TfliteTensor:
        """An operator's tensor. Raises ValueError where it has none there."""
        return self.contents.tensor(op, place, output=output)

    def is_constant(self, tensor: TfliteTensor) -> bool:
        """Whether its numbers are known beforehand."""
        return tensor.data is not None or tensor.index in self.beforehand

    def constant(self, op: TfliteOperator, place: int) -> Array:
        """A constant input's numbers, floats as float32. Raises ValueError where it is computed."""
        return self.numbers(self.tensor(op, place))

    def numbers(self, tensor: TfliteTensor) -> Array:
        """A constant's numbers: levels with a scale, and floats of any width, as float32."""
        if tensor.index in self.beforehand:
            return self.beforehand[tensor.index]
        if tensor.data is None:
            raise ValueError(f"{tensor} must be constant here")
        if tensor.dtype in FLOATS:
            return tensor.data.astype(np.float32)
        if not len(tensor.scale) or tensor.dtype not in ("int8", "uint8", "int4", "int16", "int32"):
            return tensor.data
        self.rounded.append(tensor.name)
        return _dequantized(tensor, tensor.data)

    def read(self, op: TfliteOperator, place: int) -> FloatValue:
        """The value of a computed input, in the file's order."""
        return self.in_file_order(self.as_it_is(op, place))

    def as_it_is(self, op: TfliteOperator, place: int) -> FloatValue:
        """The value of a computed input; one flattened from an image in the order `order` says."""
        tensor = self.tensor(op, place)
        if tensor.index not in self.values:
            why = "is constant here" if self.is_constant(tensor) else "is not computed before it is read"
            raise ValueError(f"{tensor} {why}")
        return self.values[tensor.index]

    def result(self, op: TfliteOperator, place: int = 0) -> FloatValue:
        """The new value of an operator's output."""
        tensor = self.tensor(op, place, output=True)
        value = self.new(tensor.name or f"tensor{tensor.index}", self.sample(tensor))
        self.values[tensor.index] = value
        return value

    def sample(self, tensor: TfliteTensor) -> tuple[int, ...]:
        """The shape of a sample in a tensor. Raises ValueError unless it begins with the batch."""
        shape = tensor.shape
        if not shape or shape[0] != self.batch:
            raise ValueError(f"{tensor} has shape {shape}: must begin with the batch, {self.batch}")
        return (shape[3], shape[1], shape[2]) if len(shape) == 4 else shape[1:]

    def new(self, name: str, shape: Sequence[int]) -> FloatValue:
        """A further value, of a name that no other has."""
        return FloatValue(name=self.unique(name), shape=tuple(shape))

    def unique(self, name: str) -> str:
        """A name that nothing else has."""
        found, number = name, 1
        while found in self.names:
            number += 1
            found = f"{name}{number}"
        self.names.add(found)
        return found

    def emit(
        self,
        kind: str,
        inputs: Sequence[FloatOperand],
        outputs: FloatValue | Sequence[FloatValue],
        *,
        path: str = "",
        **attrs: Any,
    ) -> FloatValue:
        """A node of ONNX's operator `kind`; returns its first output. `path` says what it is called."""
        made = [outputs] if isinstance(outputs, FloatValue) else list(outputs)
        names = []
        for place, operand in enumerate(inputs):
            if operand is None:
                names.append("")
            elif isinstance(operand, FloatValue):
                names.append(operand.name)
            else:
                names.append(self.unique(f"{made[0].name}:{kind}:{place}"))
                self.constants[names[-1]] = np.array(operand, order="C")
        self.nodes.append(
            OnnxNode(
                op=kind,
                name=path or path_of(made[0].name),
                inputs=tuple(names),
                outputs=tuple(one.name for one in made),
                attrs=attrs,
            )
        )
        return made[0]

    def fused(
        self, op: TfliteOperator, slot: int, kind: str, inputs: Sequence[FloatOperand], **attrs: Any
    ) -> None:
        """A node and the activation that the option at `slot` asks for."""
        number, y = op.option(slot, "b", 0), self.result(op)
        if number == 0:
            self.emit(kind, inputs, y, **attrs)
            return
        base = path_of(y.name)
        inner = self.emit(kind, inputs, self.new(f"{y.name}/{kind}", y.shape), path=base, **attrs)
        self.activate(number, inner, y, f"{base}/activation")

    def activate(self, number: int, x: FloatValue, y: FloatValue, path: str = "") -> None:
        """An activation by its number. Raises ValueError for one that is not known."""
        if number == RELU:
            self.emit("Relu", [x], y, path=path)
        elif number == TANH:
            self.emit("Tanh", [x], y, path=path)
        elif number in CLIPS:
            self.emit("Clip", [x, *(np.array(n, np.float32) for n in CLIPS[number])], y, path=path)
        else:
            raise ValueError(f"activation {number}: must be none, RELU, RELU_N1_TO_1, RELU6 or TANH")

    def in_file_order(self, value: FloatValue) -> FloatValue:
        """The value with what was flattened from an image as (H, W, C)."""
        if value.name not in self.order:
            return value
        image = self.reshaped(value, self.order[value.name])
        return self.reshaped(self.turned(image, CHANNELS_LAST), value.shape)

    def channels_last(self, image: FloatValue) -> FloatValue:
        """An image (C, H, W) as (H, W, C)."""
        return self.turned(image, CHANNELS_LAST)

    def channels_first(self, value: FloatValue) -> FloatValue:
        """(H, W, C) as an image (C, H, W)."""
        return self.turned(value, CHANNELS_FIRST)

    def turned(self, value: FloatValue, axes: Sequence[int]) -> FloatValue:
        """The dimensions of a sample in another order; a new shape where only those of 1 move."""
        shape = [value.shape[axis] for axis in axes]
        moving = [axis for axis in axes if value.shape[axis] > 1]
        if moving == sorted(moving):
            return self.reshaped(value, shape)
        perm = [0, *(axis + 1 for axis in axes)]
        return self.emit("Transpose", [value], self.new(f"{value.name}/transpose", shape), perm=perm)

    def reshaped(self, value: FloatValue, shape: Sequence[int]) -> FloatValue:
        """The value in another shape; itself where it has it. Raises ValueError for another size."""
        if tuple(shape) == value.shape:
            return value
        if math.prod(shape) != math.prod(value.shape):
            raise ValueError(f"a sample of {value.shape} has no shape {tuple(shape)}")
        sizes = np.array([-1, *shape], np.int64)
        return self.emit("Reshape", [value, sizes], self.new(f"{value.name}/reshape", shape))


def path_of(name: str) -> str:
    """What a node is called: the first of the names that a converter joined."""
    return name.split(";")[0]


def _dequantized(tensor: TfliteTensor, levels: Array) -> Array:
    """``scale · (q − zero_point)``, along the tensor's dimension where there are several scales."""
    scale, zero = tensor.scale, tensor.zero_point
    if len(scale) > 1:
        if tensor.axis not in range(levels.ndim) or levels.shape[tensor.axis] != len(scale):
            raise ValueError(f"{tensor}: {len(scale)} scales along dimension {tensor.axis}")
        sides = [-1 if axis == tensor.axis else 1 for axis in range(levels.ndim)]
        scale, zero = scale.reshape(sides), zero.reshape(sides)
    real: Array = ((levels.astype(np.int64) - zero) * scale.astype(np.float32)).astype(np.float32)
    return real
