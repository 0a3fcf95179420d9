"""Nodes and initializers of an ONNX graph in QDQ form, as `stages.exporters.onnx_graph.qdq` describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stages.exporters.levels import storage_dtype, storage_offset
from stages.exporters.onnx_graph.narrow import narrow_tensor
from stages.integer.program import Op, Program, Value
from stages.integer.unsummed import unsummed

LIMIT = 2**31
"""Beyond the levels of any value."""

Residual = Literal["exact", "requantized"]

OPSET = 21
"""Quantized tensors of 4 and 16 bits need 21; onnxruntime since 1.18 and OpenVINO since 2024.3 read it."""


@dataclass
class Writer:
    """The nodes and initializers so far. A value's levels are ``<name>/q``, its reals ``<name>/dq``.

    What moves or selects works on *elements*: levels as they are stored, here. A kin may take reals.
    """

    moves_levels: ClassVar[bool] = True
    """Whether elements are levels."""

    program: Program
    residual: Residual
    opset: int = OPSET
    narrow_bits: tuple[int, ...] = ()
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """An initializer."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node of one output, which bears the output's name."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def parameters(self, name: str, scale: NDArray[Any], zero_point: NDArray[Any]) -> list[str]:
        """Scale and zero point as inputs of a Quantize- or DequantizeLinear; one of each is a scalar."""
        shape = () if scale.size == 1 else (-1,)
        return [
            self.constant(f"{name}/scale", scale.reshape(shape).astype(np.float32)),
            self.constant(f"{name}/zero_point", zero_point.reshape(shape)),
        ]

    def dtype(self, value: Value) -> np.dtype[Any]:
        """In which a value's levels are stored."""
        return storage_dtype(value)

    def offset(self, value: Value) -> int:
        """What is added to a value's levels to store them."""
        return storage_offset(value)

    def quantize(self, real: str, value: Value, low: int, high: int) -> None:
        """``<name>/q`` of a real tensor, clamped to levels [low, high]: of 8 bits after rounding."""
        if value.wide and self._bounds(value, low, high):  # runtimes have no Clip of 16 bits
            real, (low, high) = self.clip(real, value, low, high), (-LIMIT, LIMIT)
        rounded = self.unbounded(value, low, high)
        self.node("QuantizeLinear", [real, *self.value_parameters(value)], rounded)
        self.bound(rounded, value, low, high)

    def unbounded(self, value: Value, low: int, high: int) -> str:
        """What a node that gives a value's levels calls its output, before `bound`."""
        return f"{value.name}/rounded" if self._bounds(value, low, high) else f"{value.name}/q"

    def bound(self, rounded: str, value: Value, low: int, high: int) -> None:
        """``<name>/q`` of such an output, clamped where [low, high] is narrower than the stored dtype."""
        if ends := self._bounds(value, low, high):
            levels = zip(("min", "max"), np.array(ends, self.dtype(value)), strict=True)
            bounds = [self.constant(f"{value.name}/{end}", np.array(level)) for end, level in levels]
            self.node("Clip", [rounded, *bounds], f"{value.name}/q")

    def _bounds(self, value: Value, low: int, high: int) -> tuple[int, int] | None:
        """The stored levels [low, high], where the stored dtype holds others."""
        stored, dtype = (low + self.offset(value), high + self.offset(value)), np.iinfo(self.dtype(value))
        return stored if stored[0] > dtype.min or stored[1] < dtype.max else None

    def clip(self, real: str, value: Value, low: int, high: int) -> str:
        """A real tensor, clamped to what levels [low, high] stand for: they round to just these."""
        ends = {end: self.real_levels(value, level) for end, level in (("low", low), ("high", high))}
        bounds = [self.constant(f"{value.name}/{end}", np.array(level)) for end, level in ends.items()]
        return self.node("Clip", [real, *bounds], f"{value.name}/clipped")

    def real_levels(self, value: Value, levels: Any) -> NDArray[np.float32]:
        """The reals that levels of `value` stand for, float32, as DequantizeLinear computes them."""
        centred = np.asarray(levels, np.int64) - value.zero_point
        reals: NDArray[np.float32] = centred.astype(np.float32) * np.float32(value.scale)
        return reals

    def value_parameters(self, value: Value) -> list[str]:
        """Scale and zero point of a value, as inputs of a Quantize- or DequantizeLinear."""
        zero_point = np.array(value.zero_point + self.offset(value), self.dtype(value))
        return self.parameters(value.name, np.array(value.scale), zero_point)

    def stored(self, value: Value, levels: Any) -> NDArray[Any]:
        """Levels of `value` as elements of it, the shape of `levels`."""
        return (np.asarray(levels).astype(np.int32) + self.offset(value)).astype(self.dtype(value))

    def elements(self, name: str) -> str:
        """A value's elements, which what moves or selects takes."""
        return f"{name}/q"

    def selected(self, op: Op, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        """The node that gives an operator's result as elements."""
        self.node(kind, inputs, f"{op.output}/q", **attributes)

    def index(self, value: Value, output: str, kind: int = TensorProto.INT32) -> str:
        """The places of a value's levels among those of its stored dtype, from 0, as integers."""
        return self.node("Cast", [f"{value.name}/q"], output, to=kind)

    def reals(self, name: str, value: Value | None = None) -> str:
        """``<name>/dq``, written when first asked for: a value that is only moved has no reals."""
        if f"{name}/dq" not in self.written:
            self.written.add(f"{name}/dq")
            inputs = [f"{name}/q", *self.value_parameters(value or self.program.values[name])]
            self.node("DequantizeLinear", inputs, f"{name}/dq")
        return f"{name}/dq"

    def layer(self, op: Op, weight: NDArray[Any], axis: int = 0) -> list[str]:
        """The real input, weight and bias of a layer; `axis` of the weight is the output channel."""
        dequantized = [self.reals(op.inputs[0])]
        if "weight_scale" not in op.tensors:  # a layer that stayed float
            real = (("weight", weight), ("bias", op.tensors["bias"]))
            return dequantized + [self.constant(f"{op.output}/{role}", array) for role, array in real]
        scale = op.tensors["weight_scale"]
        zero_point = op.tensors["weight_zero_point"].astype(weight.dtype)
        if scale.ndim == 2:  # of blocks of input channels
            real_weight = self._blocks(f"{op.output}/weight", weight, scale, zero_point, axis)
            return [*dequantized, real_weight, self.constant(f"{op.output}/bias", op.tensors["bias"])]
        bias_scale = self.program.values[op.inputs[0]].scale * scale.astype(np.float64)
        along = {} if scale.size == 1 else {"axis": axis}
        for role, levels, step, zero, axes in (
            ("weight", weight, scale, zero_point, along),
            ("bias", op.tensors["bias"], bias_scale, np.zeros(scale.shape, np.int32), along and {"axis": 0}),
        ):
            name = f"{op.output}/{role}"
            inputs = [self.constant(name, levels), *self.parameters(name, step, zero)]
            if role == "weight":
                self._narrow(*inputs)
            dequantized.append(self.node("DequantizeLinear", inputs, f"{name}/dq", **axes))
        return dequantized

    def _blocks(
        self, name: str, weight: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any], axis: int
    ) -> str:
        """A weight in blocks of input channels, with scales and zero points (O, G)."""
        shape = (*scale.shape, *weight.shape[2:])
        rows = {"scale": scale, "zero_point": zero_point}
        inputs = [self.constant(name, weight)]
        for key, array in rows.items():
            spread = np.broadcast_to(array.reshape(*scale.shape, *[1] * (weight.ndim - 2)), shape)
            inputs.append(self.constant(f"{name}/{key}", spread.T if axis == 1 else spread))
        self._narrow(*inputs)
        size = weight.shape[1 - axis] // scale.shape[1]
        return self.node("DequantizeLinear", inputs, f"{name}/dq", axis=1 - axis, block_size=size)

    def _narrow(self, weight: str, scale: str, zero_point: str) -> None:
        """Store a weight and its zero points in fewer bits, where they hold both."""
        names = (weight, zero_point)
        arrays = [numpy_helper.to_array(self.initializers[name]) for name in names]
        for bits in sorted(self.narrow_bits):
            tensors = [narrow_tensor(name, array, bits) for name, array in zip(names, arrays, strict=True)]
            if all(tensor is not None for tensor in tensors):
                self.initializers |= {tensor.name: tensor for tensor in tensors if tensor is not None}
                return

    def move(self, op: Op, kind: str, *extra: str, **attributes: Any) -> None:
        """An operator that selects or moves levels."""
        self.selected(op, kind, [self.elements(op.inputs[0]), *extra], **attributes)

    def padding(
        self, output: str, before: Sequence[int], after: Sequence[int], level: int, value: Value, rank: int
    ) -> list[str]:
        """What a Pad takes beside its data: amounts along the last of `rank` dimensions, and `level`."""
        lead = [0] * (rank - len(before))
        pads = self.constant(f"{output}/pads", np.array([*lead, *before, *lead, *after], np.int64))
        return [pads, self.constant(f"{output}/level", self.stored(value, level))]

    def pad(
        self,
        source: str,
        output: str,
        before: Sequence[int],
        after: Sequence[int],
        level: int,
        value: Value,
        rank: int | None = None,
    ) -> str:
        """Elements like `value`'s, padded with `level` along the last of `rank` dimensions, the value's."""
        inputs = self.padding(output, before, after, level, value, rank or len(value.shape) + 1)
        return self.node("Pad", [source, *inputs], output)

    def kept_float(self, op: Op, real: str, value: Value, low: int) -> str:
        """A layer's real result; of a layer with float weights not below what level `low` stands for.

        From its optimizations ``basic`` on, onnxruntime rounds the float weights of a Conv or Gemm to int8, a
        scale a tensor, where it sees QuantizeLinear behind it, or a Relu or Clip and then that
        (``weight_bias_quantization.cc``). It does not see through a Max, which gives the very same levels.
        """
        if "weight" not in op.tensors or "weight_scale" in op.tensors:
            return real
        least = self.constant(f"{value.name}/least", self.real_levels(value, low))
        return self.node("Max", [real, least], f"{value.name}/kept")

    def finish(self, op: Op, real: str) -> None:
        """Quantize an operator's real result; before that, add a layer's second input."""
        y = self.program.values[op.output]
        if "weight" in op.tensors and len(op.inputs) == 2:
            if self.residual == "requantized" and not y.wide:  # no runtime has integer kernels for 16 bits
                own = unsummed(op, self.program.values[op.inputs[1]], y)
                real = self.kept_float(op, real, own, own.quant_min)
                self.quantize(real, own, own.quant_min, own.quant_max)
                real = self.reals(own.name, own)
            real = self.node("Add", [real, self.reals(op.inputs[1])], f"{op.output}/sum")
        else:
            real = self.kept_float(op, real, y, op.attrs["act_min"])
        self.quantize(real, y, op.attrs["act_min"], op.attrs["act_max"])
