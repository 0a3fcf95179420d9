"""The integer program as ONNX for Qualcomm's HTP, by onnxruntime's QNN execution provider.

The provider takes an operator as a *node unit*: DequantizeLinear on every input, one operator, QuantizeLinear
on its result (docs/execution_providers/QNN-ExecutionProvider.md of onnxruntime-qnn). So

- what moves or selects stands between the two as well, which gives the very same levels;
- an activation's bounds are what its scale spans, where levels are those of the dtype: ReLU behind a zero
  point of 0 is nothing at all. Other bounds are a unit of their own, a float Relu or Clip between two
  quantizations with the same scale, which moves no level within them. A Clip of uint8 is refused there (error
  3110, ReluMinMax), and a Clip between an operator and its QuantizeLinear breaks the unit;
- tables are quantized constants: of a float constant the graph's preparation fails (error 1002);
- a linear layer is one Gemm of rows: a product and its bias would be two units, with a rounding between.

Levels of a residual stream of 16 bits are uint16, signed ones 32768 higher, as those of 8 bits are uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stages.exporters.onnx_graph.operators import OPERATORS
from stages.exporters.onnx_graph.qdq import model_of
from stages.exporters.onnx_graph.qnn_rules import qnn_dtype, qnn_offset
from stages.exporters.onnx_graph.writer import OPSET, Writer
from stages.integer.program import Op, Program, Value
from stages.integer.unsummed import unsummed

WIDE = 2**16 - 1
"""The highest stored level of 16 bits."""


@dataclass
class QnnWriter(Writer):
    """Nodes and initializers as node units; elements are reals, each with levels beside it."""

    moves_levels: ClassVar[bool] = False

    def dtype(self, value: Value) -> np.dtype[Any]:
        """As `qnn_dtype`."""
        return qnn_dtype(value)

    def offset(self, value: Value) -> int:
        """As `qnn_offset`."""
        return qnn_offset(value)

    def quantize(self, real: str, value: Value, low: int, high: int) -> None:
        """``<name>/q`` of a real tensor; bounds that its dtype does not imply are units of their own."""
        dtype, name = np.iinfo(self.dtype(value)), value.name
        below, above = low > dtype.min - self.offset(value), high < dtype.max - self.offset(value)
        if below or above:
            real = self.unit(real, f"{name}/rounded", value)
        if below and low == value.zero_point and not above:
            real = self.node("Relu", [real], f"{name}/bounded")
        elif below and above and low < high:
            real = self.clip(real, value, low, high)
        else:
            real = self._bound("Max", real, value, low) if below else real
            real = self.unit(real, f"{name}/raised", value) if below and above else real
            real = self._bound("Min", real, value, high) if above else real
        self.unit(real, name, value)

    def _bound(self, kind: str, real: str, value: Value, level: int) -> str:
        """One bound: of a Clip that the dtype makes idle at one end, HTP forgets the other end as well."""
        name = f"{value.name}/{kind.lower()}"
        bound = self._real_constant(self.constant(name, self.stored(value, [level])), value)
        return self.node(kind, [real, bound], f"{name}/bounded")

    def unit(self, real: str, name: str, value: Value) -> str:
        """End a unit: a real tensor's levels ``<name>/q``, quantized as `value`; returns their reals."""
        self.node("QuantizeLinear", [real, *self.value_parameters(value)], f"{name}/q")
        return self.reals(name, value)

    def stored(self, value: Value, levels: Any) -> NDArray[Any]:
        """Arrays of levels as they are stored, to be dequantized; a single one as a real."""
        if value.counts or np.ndim(levels):
            return super().stored(value, levels)
        return self.real_levels(value, levels)

    def elements(self, name: str) -> str:
        """Reals, but for numbers of tokens."""
        return f"{name}/q" if self.program.values[name].counts else self.reals(name)

    def selected(self, op: Op, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        """The node as a unit. Levels among its inputs are dequantized as its result's are."""
        y = self.program.values[op.output]
        if y.counts:
            super().selected(op, kind, inputs, **attributes)
            return
        reals = [self._real_constant(name, y) for name in inputs]
        self.unit(self.node(kind, reals, f"{op.output}/moved", **attributes), op.output, y)

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
        """Reals like `value`'s, padded along its last dimensions, as units.

        Where more than one dimension is padded, HTP may leave what it finds in some of the cells, unless the
        stored level is 0. Any other level is selected once more.
        """
        padded = super().pad(source, f"{output}/padding", before, after, level, value, rank)
        real = self.unit(padded, output, value)
        if level + self.offset(value) == 0:
            return real
        lead = [(0, 0)] * (len(value.shape) + 1 - len(before))
        inside = np.ones((1, *value.shape), np.bool_)
        kept = self.constant(f"{output}/kept", np.pad(inside, [*lead, *zip(before, after, strict=True)]))
        filling = self.constant(f"{output}/filling", self.stored(value, [level]))
        inputs = [kept, real, self._real_constant(filling, value)]
        return self.unit(self.node("Where", inputs, f"{output}/where"), f"{output}/filled", value)

    def reshape(self, source: str, output: str, shape: Sequence[int]) -> str:
        """Reals in another shape, the batch included."""
        wanted = self.constant(f"{output}/shape", np.array(shape, np.int64))
        return self.node("Reshape", [source, wanted], f"{output}/moved")

    def layer(self, op: Op, weight: NDArray[Any], axis: int = 0) -> list[str]:
        """The real input, weight and bias of a layer. Before a result of 16 bits the input is a copy of 16.

        HTP multiplies 16 bits by 8 to 16, and 8 by 8 to 8.
        """
        real, *others = super().layer(op, weight, axis)
        x = self.read_as(op)
        if x.name != op.inputs[0]:
            real = self.unit(real, x.name, x)
        return [real, *others]

    def read_as(self, op: Op) -> Value:
        """The value that a layer multiplies: its input, or the copy of 16 bits with the same scale."""
        x = self.program.values[op.inputs[0]]
        if x.wide or not self.program.values[op.output].wide:
            return x
        name, zero_point = f"{op.output}/wide", x.zero_point + self.offset(x)
        return replace(x, name=name, zero_point=zero_point, quant_min=0, quant_max=WIDE)

    def own(self, op: Op) -> Value:
        """A layer's own result before its residual, in as many bits as the sum has."""
        y = self.program.values[op.output]
        own = unsummed(op, self.program.values[op.inputs[1]], y)
        if y.wide:
            own = replace(own, scale=own.scale / 257, zero_point=own.zero_point * 257, quant_max=WIDE)
        return own

    def finish(self, op: Op, real: str) -> None:
        """Quantize an operator's real result; a layer's residual is added by a unit of its own."""
        y = self.program.values[op.output]
        if "weight" in op.tensors and len(op.inputs) == 2:
            own = self.own(op)
            terms = [self.unit(real, own.name, own), self.reals(op.inputs[1])]
            real = self.node("Add", terms, f"{op.output}/sum")
        self.quantize(real, y, op.attrs["act_min"], op.attrs["act_max"])

    def _real_constant(self, name: str, value: Value) -> str:
        tensor = self.initializers.get(name)
        if tensor is None or numpy_helper.to_array(tensor).dtype != self.dtype(value):
            return name
        return self.node("DequantizeLinear", [name, *self.value_parameters(value)], f"{name}/dq")


class ActingWriter(QnnWriter):
    """Bounds as float operators before the only quantization, implied ones too: a graph to be taken apart."""

    def quantize(self, real: str, value: Value, low: int, high: int) -> None:
        """``<name>/q`` of a real tensor behind its activation function."""
        dtype, name = np.iinfo(self.dtype(value)), f"{value.name}/bounded"
        below, above = low > dtype.min - self.offset(value), high < dtype.max - self.offset(value)
        if low == value.zero_point and not above:
            real = self.node("Relu", [real], name)
        elif below or above:
            real = self.clip(real, value, low, high)
        self.unit(real, value.name, value)


def _linear(writer: QnnWriter, op: Op) -> None:
    """A Gemm; of tokens, one of all of them as rows, each of which is rounded once."""
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    source, weight, bias = writer.layer(op, op.tensors["weight"])
    if len(x.shape) == 1:
        writer.finish(op, writer.node("Gemm", [source, weight, bias], f"{op.output}/linear", transB=1))
        return
    rows = writer.unit(
        writer.reshape(source, f"{op.output}/flat", (-1, x.shape[-1])),
        f"{op.output}/flat",
        writer.read_as(op),
    )
    product = writer.node("Gemm", [rows, weight, bias], f"{op.output}/linear", transB=1)
    levels = writer.unit(product, f"{op.output}/linear", writer.own(op) if len(op.inputs) == 2 else y)
    writer.finish(op, writer.reshape(levels, f"{op.output}/shaped", (-1, *y.shape)))


def _mean(writer: QnnWriter, op: Op) -> None:
    """ReduceMean, where the ratio holds nothing else: a sum and a factor would be computed in float."""
    x, y, axes = writer.program.values[op.inputs[0]], writer.program.values[op.output], op.attrs["axes"]
    share = 1.0 / math.prod(x.shape[axis] for axis in axes)
    if abs(float(op.tensors["ratio"][0]) * y.scale / x.scale - share) > 1e-6 * share:
        OPERATORS["mean"](writer, op)
        return
    numbers = writer.constant(f"{op.output}/axes", np.array([axis + 1 for axis in axes], np.int64))
    inputs, keep = [writer.reals(x.name), numbers], int(op.attrs["keepdim"])
    writer.finish(op, writer.node("ReduceMean", inputs, f"{op.output}/mean", keepdims=keep))


def _pad(writer: QnnWriter, op: Op) -> None:
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    if x.counts:
        OPERATORS["pad"](writer, op)
        return
    before, after = zip(*op.attrs["pads"], strict=True)
    padded = writer.pad(writer.reals(x.name), f"{op.output}/padded", before, after, x.zero_point, x)
    writer.unit(padded, y.name, y)


def _avg_pool2d(writer: QnnWriter, op: Op) -> None:
    """A pool of padded reals: HTP averages without the padding, whatever ``count_include_pad`` says."""
    x, kernel, padding = writer.program.values[op.inputs[0]], tuple(op.attrs["kernel"]), op.attrs["padding"]
    if not any(padding):
        OPERATORS["avg_pool2d"](writer, op)
        return
    source = writer.pad(writer.reals(x.name), f"{op.output}/padded", padding, padding, x.zero_point, x)
    form = {"kernel_shape": kernel, "strides": op.attrs["stride"]}
    writer.finish(op, writer.node("AveragePool", [source], f"{op.output}/mean", **form))


def _insert_zeros(writer: QnnWriter, op: Op) -> None:
    """Zeros behind each row, then behind each column, in four dimensions: HTP has at most five."""
    x, y, name = writer.program.values[op.inputs[0]], writer.program.values[op.output], op.output
    (channels, height, width), (rows, columns) = x.shape, op.attrs["factor"]
    real = writer.reals(x.name)
    for axis, factor, apart, joined in (
        ("rows", rows, (channels * height, 1, width), (channels * height * rows, width, 1)),
        (
            "columns",
            columns,
            (channels * height * rows, width, 1),
            (channels, height * rows, width * columns),
        ),
    ):
        after = (0, factor - 1, 0) if axis == "rows" else (0, 0, factor - 1)
        cut = f"{name}/{axis}"
        single = writer.unit(writer.reshape(real, f"{cut}/apart", (-1, *apart)), f"{cut}/apart", x)
        padded = writer.pad(single, f"{cut}/padded", (0, 0, 0), after, x.zero_point, replace(x, shape=apart))
        real = writer.unit(writer.reshape(padded, f"{cut}/joined", (-1, *joined)), f"{cut}/joined", x)
    ends = {"starts": [0, 0], "ends": y.shape[1:], "axes": [2, 3]}
    names = [writer.constant(f"{name}/{key}", np.array(numbers, np.int64)) for key, numbers in ends.items()]
    writer.selected(op, "Slice", [real, *names])


OWN: Mapping[str, Callable[[Any, Op], None]] = {
    "linear": _linear,
    "mean": _mean,
    "pad": _pad,
    "avg_pool2d": _avg_pool2d,
    "insert_zeros": _insert_zeros,
}
"""Operators that are written in another way for HTP."""


def program_to_qnn(
    program: Program, batch: int = 1, *, trace: bool = False, units: bool = True
) -> onnx.ModelProto:
    """Write `program` as an ONNX model from ``input`` to ``output``, float32 (batch, …), for HTP.

    Args:
        program: what to write.
        batch: samples; HTP takes no open number.
        trace: make every value an output too, as `traced` names it. The provider has no place for a
            Transpose whose levels are asked for.
        units: for the provider. Else activation functions stand before the quantizations, ReLU by name: what
            `stages.exporters.onnx_graph.encodings` takes apart. The levels are the same.
    """
    writer = (QnnWriter if units else ActingWriter)(program, "requantized", opset=OPSET)
    model = model_of(writer, {**OPERATORS, **OWN}, batch)
    for value in program.values.values() if trace else ():
        name, kind = traced(value), TensorProto.FLOAT
        if value.wide:
            kind = helper.np_dtype_to_tensor_dtype(qnn_dtype(value))
        else:
            writer.reals(value.name)
        model.graph.output.append(helper.make_tensor_value_info(name, kind, [batch, *value.shape]))
    model.graph.node.extend(writer.nodes[len(model.graph.node) :])
    return model


def traced(value: Value) -> str:
    """The output that shows a value: its reals, or its levels where these are wide."""
    return f"{value.name}/q" if value.wide else f"{value.name}/dq"
