"""The integer program as ONNX whose operators take and give levels (QOperator).

Levels are stored as in `stages.exporters.onnx_graph.qdq`, uint8. What computes is one node:

================  =======================  ========================================================
operator          node                     domain
================  =======================  ========================================================
conv2d            QLinearConv              ONNX, int32 bias inside
linear            QGemm                    com.microsoft, int32 bias inside
                  MatMulInteger, Add, …    ONNX: the sum in int32, with the bias, then one product and
                                           QuantizeLinear
                  QLinearMatMul            ONNX, where all biases are 0
matmul            QLinearMatMul            ONNX
add               QLinearAdd               com.microsoft, of two inputs
multiply          QLinearMul               com.microsoft
avg_pool2d        QLinearAveragePool       com.microsoft; QLinearGlobalAveragePool of a whole image
concat            QLinearConcat            com.microsoft
softmax           QLinearSoftmax           com.microsoft, along the last dimension
================  =======================  ========================================================

A residual is requantized: the layer's own result to 8 bits, then QLinearAdd. Bounds are a Clip of levels, as
there. What has no such operator, or has but one that com.microsoft defines where that is not wanted, is float
between DequantizeLinear and QuantizeLinear, and so are convolutions whose channels have zero points of their
own, which QLinearConv takes and onnxruntime does not. Functions of one value are tables of the program
already, and exact as such: QLinearSigmoid and QLinearLeakyRelu would round once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from stages.exporters.onnx_graph.narrow import narrow_bits
from stages.exporters.onnx_graph.operators import OPERATORS, pads
from stages.exporters.onnx_graph.qdq import model_of
from stages.exporters.onnx_graph.writer import OPSET, Writer
from stages.integer.program import Op, Program, Value
from stages.integer.unsummed import unsummed

MICROSOFT = "com.microsoft"


@dataclass
class QOperatorWriter(Writer):
    """Nodes that take and give levels."""

    contrib: bool = True

    def levels(self, name: str, value: Value | None = None, *, factor: float = 1.0) -> list[str]:
        """A value's levels, scale and zero point, as such a node takes them."""
        value = value or self.program.values[name]
        if factor == 1.0:
            return [f"{name}/q", *self.value_parameters(value)]
        scale, zero_point = np.array(value.scale * factor), np.array(self.stored(value, value.zero_point))
        return [f"{name}/q", *self.parameters(f"{name}/times", scale, zero_point)]

    def weight(self, op: Op, weight: NDArray[Any]) -> list[str]:
        """A layer's weight, scale and zero point."""
        name = f"{op.output}/weight"
        zero_point = op.tensors["weight_zero_point"].astype(weight.dtype)
        scale = op.tensors["weight_scale"]
        if scale.size != zero_point.size:
            scale, zero_point = np.broadcast_arrays(scale, zero_point)
        return [self.constant(name, weight), *self.parameters(name, scale, zero_point)]

    def give(self, op: Op, kind: str, inputs: list[str], **attributes: Any) -> None:
        """A node that gives `op`'s levels, clamped to its bounds."""
        y = self.program.values[op.output]
        low, high = op.attrs["act_min"], op.attrs["act_max"]
        result = self.node(kind, inputs, self.unbounded(y, low, high), **attributes)
        self.bound(result, y, low, high)

    def sum(self, op: Op, own: Value) -> None:
        """A layer's result, quantized as `own`, and its residual."""
        y = self.program.values[op.output]
        if not self.contrib:
            parts = [self.reals(own.name, own), self.reals(op.inputs[1])]
            real = self.node("Add", parts, f"{op.output}/sum")
            self.quantize(real, y, op.attrs["act_min"], op.attrs["act_max"])
            return
        terms = [*self.levels(own.name, own), *self.levels(op.inputs[1])]
        self.give(op, "QLinearAdd", [*terms, *self.value_parameters(y)], domain=MICROSOFT)


LevelsForm = Callable[[QOperatorWriter, Op], bool]
"""Writes an operator; False, and nothing, where there is no node for it."""


def _result(writer: QOperatorWriter, op: Op) -> tuple[Value, Callable[..., None]]:
    """The value that a layer's own node gives, and what writes that node and all behind it."""
    y = writer.program.values[op.output]
    if len(op.inputs) == 1:
        return y, lambda kind, inputs, **attributes: writer.give(op, kind, inputs, **attributes)
    own = unsummed(op, writer.program.values[op.inputs[1]], y)

    def write(kind: str, inputs: list[str], **attributes: Any) -> None:
        writer.node(kind, inputs, f"{own.name}/q", **attributes)
        writer.sum(op, own)

    return own, write


def _conv2d(writer: QOperatorWriter, op: Op) -> bool:
    weight, zero_point = op.tensors["weight"], op.tensors["weight_zero_point"]
    if (zero_point != zero_point[0]).any():
        return False
    own, write = _result(writer, op)
    bias = writer.constant(f"{op.output}/bias", op.tensors["bias"])
    write(
        "QLinearConv",
        [*writer.levels(op.inputs[0]), *writer.weight(op, weight), *writer.value_parameters(own), bias],
        kernel_shape=weight.shape[2:],
        strides=op.attrs["stride"],
        pads=pads(op.attrs["padding"]),
        dilations=op.attrs["dilation"],
        group=op.attrs["groups"],
    )
    return True


def _linear(writer: QOperatorWriter, op: Op) -> bool:
    x, weight = writer.program.values[op.inputs[0]], op.tensors["weight"].T
    if not op.tensors["bias"].any():
        own, write = _result(writer, op)
        inputs = [*writer.levels(x.name), *writer.weight(op, weight), *writer.value_parameters(own)]
        write("QLinearMatMul", inputs)
        return True
    if writer.contrib and len(x.shape) == 1:
        own, write = _result(writer, op)
        bias = writer.constant(f"{op.output}/bias", op.tensors["bias"])
        inputs = [*writer.levels(x.name), *writer.weight(op, weight), bias, *writer.value_parameters(own)]
        write("QGemm", inputs, domain=MICROSOFT)
        return True
    levels, _, zero_point = writer.levels(x.name)
    name, _, weight_zero_point = writer.weight(op, weight)
    sums = writer.node("MatMulInteger", [levels, name, zero_point, weight_zero_point], f"{op.output}/sums")
    bias = writer.constant(f"{op.output}/bias", op.tensors["bias"])
    sums = writer.node("Add", [sums, bias], f"{op.output}/accumulator")
    real = writer.node("Cast", [sums], f"{op.output}/counted", to=TensorProto.FLOAT)
    step = (op.tensors["weight_scale"].astype(np.float64) * x.scale).astype(np.float32)
    real = writer.node("Mul", [real, writer.constant(f"{op.output}/step", step)], f"{op.output}/linear")
    writer.finish(op, real)
    return True


def _matmul(writer: QOperatorWriter, op: Op) -> bool:
    y = writer.program.values[op.output]
    a, b = writer.levels(op.inputs[0], factor=_factor(writer, op)), writer.levels(op.inputs[1])
    writer.give(op, "QLinearMatMul", [*a, *b, *writer.value_parameters(y)])
    return True


def _multiply(writer: QOperatorWriter, op: Op) -> bool:
    y = writer.program.values[op.output]
    a, b = writer.levels(op.inputs[0], factor=_factor(writer, op)), writer.levels(op.inputs[1])
    writer.give(op, "QLinearMul", [*a, *b, *writer.value_parameters(y)], domain=MICROSOFT)
    return True


def _factor(writer: QOperatorWriter, op: Op) -> float:
    """What the ratio of a product holds beside the scales; 1 where that is nothing."""
    a, b, y = (writer.program.values[name] for name in (*op.inputs, op.output))
    factor = float(op.tensors["ratio"][0]) * y.scale / (a.scale * b.scale)
    return 1.0 if abs(factor - 1.0) < 1e-6 else factor


def _add(writer: QOperatorWriter, op: Op) -> bool:
    if len(op.inputs) != 2:
        return False
    y = writer.program.values[op.output]
    terms = [part for name in op.inputs for part in writer.levels(name)]
    writer.give(op, "QLinearAdd", [*terms, *writer.value_parameters(y)], domain=MICROSOFT)
    return True


def _avg_pool2d(writer: QOperatorWriter, op: Op) -> bool:
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    kernel, padding = tuple(op.attrs["kernel"]), op.attrs["padding"]
    source, kind = x.name, "QLinearAveragePool"
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": op.attrs["stride"]}
    if any(padding):
        source = f"{op.output}/padded"
        writer.pad(f"{x.name}/q", f"{source}/q", padding, padding, x.zero_point, x)
    elif kernel == tuple(x.shape[1:]):
        kind, attributes = "QLinearGlobalAveragePool", {}
    inputs = [*writer.levels(source, x), *writer.value_parameters(y)]
    writer.give(op, kind, inputs, domain=MICROSOFT, **attributes)
    return True


def _concat(writer: QOperatorWriter, op: Op) -> bool:
    y = writer.program.values[op.output]
    parts = [part for name in op.inputs for part in writer.levels(name)]
    inputs = [*writer.value_parameters(y), *parts]
    writer.give(op, "QLinearConcat", inputs, domain=MICROSOFT, axis=op.attrs["axis"] + 1)
    return True


def _softmax(writer: QOperatorWriter, op: Op) -> bool:
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    if len(op.inputs) != 1 or op.attrs["axis"] != len(x.shape) - 1:
        return False
    inputs = [*writer.levels(x.name), *writer.value_parameters(y)]
    writer.give(op, "QLinearSoftmax", inputs, domain=MICROSOFT, axis=len(x.shape), opset=13)
    return True


STANDARD: Mapping[str, LevelsForm] = {"conv2d": _conv2d, "linear": _linear, "matmul": _matmul}
CONTRIB: Mapping[str, LevelsForm] = {
    "add": _add,
    "multiply": _multiply,
    "avg_pool2d": _avg_pool2d,
    "concat": _concat,
    "softmax": _softmax,
}
"""What com.microsoft defines."""


def _write(writer: Writer, op: Op) -> None:
    """The operator as a node over levels where there is one, else in float."""
    narrow = not any(writer.program.values[name].wide for name in (*op.inputs, op.output))
    form = None
    if narrow and isinstance(writer, QOperatorWriter):
        form = STANDARD.get(op.op) or (CONTRIB.get(op.op) if writer.contrib else None)
        if form is not None and form(writer, op):
            return
    OPERATORS[op.op](writer, op)


def program_to_qoperator(
    program: Program,
    batch: int | None = None,
    *,
    contrib: bool = True,
    opset: int = OPSET,
    trace: bool = False,
    narrow: bool = False,
) -> onnx.ModelProto:
    """Write `program` as an ONNX model of operators over levels, from ``input`` to ``output``, both float32.

    Args:
        program: what to write.
        batch: samples; None leaves the number open.
        contrib: use operators of com.microsoft, which onnxruntime alone has.
        opset: 17 to 25.
        trace: make the stored levels of every value, ``<name>/q``, outputs too.
        narrow: as `stages.exporters.onnx_graph.qdq.program_to_onnx` has it, for layers that stay between
            levels in float; the operators over levels take int8.
    """
    bits = narrow_bits(opset) if narrow else ()
    writer = QOperatorWriter(program, "requantized", opset=opset, narrow_bits=bits, contrib=contrib)
    domains = (MICROSOFT,) if contrib else ()
    return model_of(writer, dict.fromkeys(OPERATORS, _write), batch, trace=trace, domains=domains)
