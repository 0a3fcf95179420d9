"""Tensors and operators of a TFLite file, as `stages.exporters.tflite_file.model` puts them together.

A value's tensor bears its name; in another layout (`stages.exporters.tflite_file.layout`) it is written when
first asked for, by TRANSPOSE and RESHAPE, and a constant is stored in whatever layout it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from stages.exporters.tflite_file.layout import TensorLayout
from stages.integer.program import Op, Program, Value

TYPES: Mapping[str, int] = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "int64": schema.TensorType.INT64,
    "int8": schema.TensorType.INT8,
}

VERSIONS: Mapping[str, int] = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 5,
    "BATCH_MATMUL": 2,
    "RESHAPE": 1,
    "CAST": 1,
    "RESIZE_NEAREST_NEIGHBOR": 2,
}
"""The version from which on an operator takes int8 as it is written here; 2 where none is given. Source:
tensorflow/lite/tools/versioning/op_version.cc."""


class NoFormError(ValueError):
    """A value that cannot be written.

    Args:
        name: the value's, which is its operator's.
        kind: the operator's.
        why: what TFLite does not have.
        remedy: what to do instead.
    """

    def __init__(self, name: str, kind: str, why: str, remedy: str) -> None:
        super().__init__(f"'{name}' ({kind}): {why}. Remedy: {remedy}")
        self.name, self.kind, self.why, self.remedy = name, kind, why, remedy


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where a value lies: the index of its tensor, and the layout that its elements have there."""

    tensor: int
    layout: TensorLayout


@dataclass
class TfliteWriter:
    """The tensors, buffers and operators so far.

    Args:
        program: what is written.
        batch: samples that every tensor holds.
        int4: whether a layer's weights that 4 bits hold are stored so, two a byte, the first in the low half.
    """

    program: Program
    batch: int
    int4: bool = False
    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    codes: dict[str, int] = field(default_factory=dict)
    operators: list[Any] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    _moved: dict[tuple[str, TensorLayout], int] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[int, ...], bytes], int] = field(default_factory=dict)

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str, value: Value | None = None, buffer: int = 0
    ) -> int:
        """A tensor of `shape`, the batch counted; with the scale and zero point of `value`."""
        quantization = None
        if value is not None:
            quantization = _quantization(np.array([value.scale]), np.array([value.zero_point]), 0)
        return self._append(name, shape, TYPES[dtype], buffer, quantization)

    def constant(
        self, name: str, array: NDArray[Any], scale: NDArray[Any] | None = None, axis: int = 0, zero: int = 0
    ) -> int:
        """A tensor with contents; `scale` of one number, or one an index of `axis`. The same one is one."""
        key = (str(array.dtype), array.shape, array.tobytes())
        if scale is None and key in self._known:
            return self._known[key]
        quantization = None
        if scale is not None:
            quantization = _quantization(scale, np.full(scale.shape, zero), axis)
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.buffers.append(schema.BufferT(data=data))
        type_ = TYPES[array.dtype.name]
        index = self._append(name, array.shape, type_, len(self.buffers) - 1, quantization)
        if scale is None:
            self._known[key] = index
        return index

    def weight(self, name: str, levels: NDArray[Any], scale: NDArray[Any], axis: int, zero: int) -> int:
        """A layer's weights, as `int4` says."""
        if (
            not self.int4
            or levels.dtype != np.int8
            or not levels.size
            or levels.min() < -8
            or levels.max() > 7
        ):
            return self.constant(name, levels, scale, axis, zero)
        low_first = np.pad(levels.reshape(-1), (0, levels.size % 2)).view(np.uint8) & 15
        packed = low_first[::2] | (low_first[1::2] << 4)
        self.buffers.append(schema.BufferT(data=packed))
        quantization = _quantization(scale, np.zeros(scale.shape), axis)
        return self._append(name, levels.shape, schema.TensorType.INT4, len(self.buffers) - 1, quantization)

    def operator(self, code: str, inputs: Sequence[int], output: int, options: Any = None) -> int:
        """An operator of one output; returns that."""
        kind = 0
        if options is not None:
            kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        operator = schema.OperatorT(
            opcodeIndex=self.codes.setdefault(code, len(self.codes)),
            inputs=list(inputs),
            outputs=[output],
            builtinOptionsType=kind,
            builtinOptions=options,
        )
        self.operators.append(operator)
        return output

    def value(self, name: str, layout: TensorLayout | None = None) -> int:
        """The tensor of a value in a layout; None for the one that it has."""
        if name in self.constants:
            return self._constant_value(name, layout or TensorLayout.plain(self.program.values[name].shape))
        at = self.stored[name]
        if layout is None or layout == at.layout:
            return at.tensor
        if (name, layout) not in self._moved:
            self._moved[name, layout] = self._move(name, at, layout)
        return self._moved[name, layout]

    def layout(self, name: str) -> TensorLayout:
        """The layout that a value has; plain where it is flat, or a constant."""
        shape = self.program.values[name].shape
        if name in self.constants or self.stored[name].layout.flat:
            return TensorLayout.plain(shape)
        return self.stored[name].layout

    def declare(self, name: str, layout: TensorLayout) -> int:
        """A value's own tensor, empty, in a layout that it has from here on."""
        value = self.program.values[name]
        index = self.tensor(name, (self.batch, *layout.shape), value.dtype.name, value)
        self.stored[name] = Stored(tensor=index, layout=layout)
        return index

    def same(self, name: str, tensor: int, layout: TensorLayout) -> None:
        """A value that is another name of a tensor."""
        self.stored[name] = Stored(tensor=tensor, layout=layout)

    def like(self, tensor: int, name: str, shape: Sequence[int]) -> int:
        """A tensor of another shape, the batch counted, with the type and quantization of `tensor`."""
        model = self.tensors[tensor]
        return self._append(name, shape, model.type, 0, model.quantization)

    def reshape(self, source: int, name: str, shape: Sequence[int]) -> int:
        """The tensor in another shape of a sample; itself where it has that."""
        return self.reshape_to(source, name, (self.batch, *shape))

    def reshape_to(self, source: int, name: str, shape: Sequence[int]) -> int:
        """The tensor in another shape, the batch counted; itself where it has that."""
        if tuple(self.tensors[source].shape) == tuple(shape):
            return source
        return self.reshape_into(source, self.like(source, name, shape))

    def reshape_into(self, source: int, target: int) -> int:
        """RESHAPE to the shape of an empty tensor."""
        shape = [int(size) for size in self.tensors[target].shape]
        wanted = self.constant("shape", np.array([-1, *shape[1:]], np.int32))
        return self.operator("RESHAPE", [source, wanted], target, schema.ReshapeOptionsT(newShape=shape))

    def transpose(self, source: int, name: str, axes: Sequence[int]) -> int:
        """Dimension i of the result, the batch counted, is the dimension ``axes[i]`` of the source."""
        shape = [self.tensors[source].shape[axis] for axis in axes]
        order = self.constant("order", np.array(axes, np.int32))
        target = self.like(source, name, shape)
        return self.operator("TRANSPOSE", [source, order], target, schema.TransposeOptionsT())

    def _move(self, name: str, at: Stored, layout: TensorLayout) -> int:
        """From one layout to another: of the same sizes by one permutation, else by way of the plain one."""
        tag = f"{name}/{'x'.join(map(str, layout.shape))}"
        if at.layout.in_order and layout.in_order:
            return self.reshape(at.tensor, tag, layout.shape)
        if at.layout.sizes != layout.sizes:
            shape = self.program.values[name].shape
            plain = TensorLayout.plain(at.layout.sizes)
            middle = at.tensor
            if not at.layout.in_order:
                middle = self._move(f"{name}/sizes", at, plain)
            middle = self.reshape(middle, f"{name}/plain", layout.sizes)
            return (
                self._move(name, Stored(tensor=middle, layout=TensorLayout.plain(layout.sizes)), layout)
                if (layout != TensorLayout.plain(shape))
                else middle
            )
        index = self.reshape(at.tensor, f"{tag}/permuted", at.layout.permuted)
        if at.layout.order != layout.order:
            axes = [0, *(at.layout.order.index(axis) + 1 for axis in layout.order)]
            index = self.transpose(index, tag, axes)
        return self.reshape(index, f"{tag}/flat", layout.shape)

    def _constant_value(self, name: str, layout: TensorLayout) -> int:
        value = self.program.values[name]
        levels = layout.to_file(np.repeat(self.constants[name][None], self.batch, axis=0))
        if (name, layout) not in self._moved:
            scale = np.array([value.scale])
            self._moved[name, layout] = self.constant(name, levels, scale, zero=value.zero_point)
        return self._moved[name, layout]

    def _append(self, name: str, shape: Sequence[int], type_: int, buffer: int, quantization: Any) -> int:
        tensor = schema.TensorT(
            shape=[int(size) for size in shape],
            type=type_,
            buffer=buffer,
            name=name,
            quantization=quantization,
            hasRank=True,
        )
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def no_form(op: Op, why: str, remedy: str) -> NoFormError:
    """A refusal of an operator."""
    return NoFormError(op.output, op.op, why, remedy)


def _quantization(scale: NDArray[Any], zero_point: NDArray[Any], axis: int) -> Any:
    return schema.QuantizationParametersT(
        scale=scale.astype(np.float32), zeroPoint=zero_point.astype(np.int64), quantizedDimension=axis
    )
