"""The integer program as ONNX: float operators between QuantizeLinear and DequantizeLinear (QDQ).

A value of the program is levels, uint8 (signed ones are stored 128 higher, see `storage_offset`: kernels want
one dtype on both sides). An operator that computes dequantizes its inputs, computes in reals, quantizes, and
clamps the levels to ``[act_min, act_max]`` where that is narrower than uint8; ReLU and ReLU6 are such clamps.
An operator that selects or moves works on the levels. A runtime that knows the pattern runs it on integer
kernels: onnxruntime's QLinearConv and its kin, OpenVINO's int8 convolutions.

A residual is the one place where the pattern cannot say what the program says in every runtime. The program
rounds the sum once, ``y = rint((real(acc) + real(r)) / scale_y)``:

- ``exact`` writes just that. OpenVINO computes it with int8 kernels; onnxruntime's kernels end in levels, and
  it would run the convolution in float.
- ``requantized`` also rounds the layer's own result, to 8 bits over ``[min y − max r, max y − min r]``:
  beyond it the sum is clamped anyway. The additional error is at most half a step of it, that is, about
  ``(scale_y + scale_r) / 2``: one level of y where r's steps are not wider than y's.

Input and output of the graph are float32; its first node quantizes the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stages.integer.bounds import centred_weight
from stages.integer.program import Op, Program, Value

Array = NDArray[Any]

OPSET = 17
"""DequantizeLinear along an axis needs 13; every runtime of the last years reads 17."""

IR_VERSION = 8

Residual = Literal["exact", "requantized"]


def storage_offset(value: Value) -> int:
    """What is added to a value's levels to store them as uint8: 128 for signed levels."""
    return 128 if value.quant_min < 0 else 0


def program_to_onnx(
    program: Program,
    batch: int | None = None,
    *,
    residual: Residual = "requantized",
    trace: bool = False,
) -> onnx.ModelProto:
    """Write `program` as an ONNX model from ``input`` to ``output``, both float32 with a batch dimension.

    Args:
        program: what to write.
        batch: samples; None leaves the number open.
        residual: how a sum with a layer's second input is written, see the module.
        trace: make the stored levels of every value, ``<name>/q``, outputs too.
    """
    return _Writer(program, batch, residual).model(trace)


@dataclass
class _Writer:
    """The nodes and initializers so far. A value's levels are ``<name>/q``, its reals ``<name>/dq``."""

    program: Program
    batch: int | None
    residual: Residual
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def model(self, trace: bool) -> onnx.ModelProto:
        values = self.program.values
        x, y = values[self.program.input], values[self.program.output]
        self.quantize("input", x, x.quant_min, x.quant_max)
        for op in self.program.ops:
            _WRITERS[op.op](self, op)
        self.node("Identity", [self.reals(y.name)], "output")
        outputs = [self._info("output", TensorProto.FLOAT, y)]
        if trace:
            outputs += [self._info(f"{name}/q", TensorProto.UINT8, value) for name, value in values.items()]
        inputs = [self._info("input", TensorProto.FLOAT, x)]
        graph = helper.make_graph(self.nodes, "program", inputs, outputs, list(self.initializers.values()))
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], producer_name="quantization-pipeline")
        model.ir_version = IR_VERSION
        return model

    def _info(self, name: str, kind: int, value: Value) -> onnx.ValueInfoProto:
        batch = "N" if self.batch is None else self.batch
        return helper.make_tensor_value_info(name, kind, [batch, *value.shape])

    def constant(self, name: str, array: Array) -> str:
        """An initializer."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node of one output, which bears the output's name."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def parameters(self, name: str, scale: Array, zero_point: Array) -> list[str]:
        """Scale and zero point as inputs of a Quantize- or DequantizeLinear; one of each is a scalar."""
        shape = () if scale.size == 1 else (-1,)
        return [
            self.constant(f"{name}/scale", scale.reshape(shape).astype(np.float32)),
            self.constant(f"{name}/zero_point", zero_point.reshape(shape)),
        ]

    def quantize(self, real: str, value: Value, low: int, high: int) -> None:
        """``<name>/q`` of a real tensor, clamped to levels [low, high]."""
        levels = np.array([low, high]) + storage_offset(value)
        narrow = tuple(levels) != (0, 255)
        rounded = f"{value.name}/rounded" if narrow else f"{value.name}/q"
        self.node("QuantizeLinear", [real, *self._value_parameters(value)], rounded)
        if narrow:
            ends = zip(("min", "max"), levels.astype(np.uint8), strict=True)
            bounds = [self.constant(f"{value.name}/{end}", np.array(level)) for end, level in ends]
            self.node("Clip", [rounded, *bounds], f"{value.name}/q")

    def _value_parameters(self, value: Value) -> list[str]:
        zero_point = np.array(value.zero_point + storage_offset(value), np.uint8)
        return self.parameters(value.name, np.array(value.scale), zero_point)

    def reals(self, name: str, value: Value | None = None) -> str:
        """``<name>/dq``, written when first asked for: a value that is only moved has no reals."""
        if f"{name}/dq" not in self.written:
            self.written.add(f"{name}/dq")
            inputs = [f"{name}/q", *self._value_parameters(value or self.program.values[name])]
            self.node("DequantizeLinear", inputs, f"{name}/dq")
        return f"{name}/dq"

    def layer(self, op: Op, weight: Array, axis: int = 0) -> list[str]:
        """The real input, weight and bias of a layer; `axis` of the weight is the output channel."""
        dequantized = [self.reals(op.inputs[0])]
        if "weight_scale" not in op.tensors:  # a layer that stayed float
            real = (("weight", weight), ("bias", op.tensors["bias"]))
            return dequantized + [self.constant(f"{op.output}/{role}", array) for role, array in real]
        scale = op.tensors["weight_scale"]
        zero_point = op.tensors["weight_zero_point"].astype(weight.dtype)
        bias_scale = self.program.values[op.inputs[0]].scale * scale.astype(np.float64)
        along = {} if scale.size == 1 else {"axis": axis}
        for role, levels, step, zero, axes in (
            ("weight", weight, scale, zero_point, along),
            ("bias", op.tensors["bias"], bias_scale, np.zeros(scale.shape, np.int32), along and {"axis": 0}),
        ):
            name = f"{op.output}/{role}"
            inputs = [self.constant(name, levels), *self.parameters(name, step, zero)]
            dequantized.append(self.node("DequantizeLinear", inputs, f"{name}/dq", **axes))
        return dequantized

    def move(self, op: Op, kind: str, *extra: str, **attributes: Any) -> None:
        """An operator that selects or moves levels."""
        self.node(kind, [f"{op.inputs[0]}/q", *extra], f"{op.output}/q", **attributes)

    def finish(self, op: Op, real: str) -> None:
        """Quantize an operator's real result; before that, add a layer's second input."""
        y = self.program.values[op.output]
        if "weight" in op.tensors and len(op.inputs) == 2:
            if self.residual == "requantized":
                own = _unsummed(op, self.program.values[op.inputs[1]], y)
                self.quantize(real, own, own.quant_min, own.quant_max)
                real = self.reals(own.name, own)
            real = self.node("Add", [real, self.reals(op.inputs[1])], f"{op.output}/sum")
        self.quantize(real, y, op.attrs["act_min"], op.attrs["act_max"])


def _unsummed(op: Op, r: Value, y: Value) -> Value:
    """A layer's own result as a value of 8 bits: what it can be where the sum with r is not clamped."""
    low = y.scale * (op.attrs["act_min"] - y.zero_point) - r.scale * (r.quant_max - r.zero_point)
    high = y.scale * (op.attrs["act_max"] - y.zero_point) - r.scale * (r.quant_min - r.zero_point)
    scale = (high - low) / 254  # of 255 steps, one is for rounding the zero point
    zero_point = round(-low / scale)
    name = f"{op.output}/unsummed"
    return Value(name=name, shape=y.shape, scale=scale, zero_point=zero_point, quant_min=0, quant_max=255)


def _ends(padding: Sequence[int]) -> list[int]:
    """Symmetric (height, width) padding in ONNX's order: begins, then ends."""
    return [*padding, *padding]


def _conv2d(writer: _Writer, op: Op) -> None:
    weight = op.tensors["weight"]
    result = writer.node(
        "Conv",
        writer.layer(op, weight),
        f"{op.output}/conv",
        kernel_shape=weight.shape[2:],
        strides=op.attrs["stride"],
        pads=_ends(op.attrs["padding"]),
        dilations=op.attrs["dilation"],
        group=op.attrs["groups"],
    )
    writer.finish(op, result)


def _linear(writer: _Writer, op: Op) -> None:
    if len(writer.program.values[op.inputs[0]].shape) == 1:
        result = writer.node("Gemm", writer.layer(op, op.tensors["weight"]), f"{op.output}/linear", transB=1)
    else:
        x, weight, bias = writer.layer(op, op.tensors["weight"].T, axis=1)
        product = writer.node("MatMul", [x, weight], f"{op.output}/product")
        result = writer.node("Add", [product, bias], f"{op.output}/linear")
    writer.finish(op, result)


def _ungrouped(op: Op, program: Program) -> Op:
    """A layer with scales of groups over the reals that its integers stand for; no runtime sums in groups."""
    scale, bias = op.tensors["weight_scale"].astype(np.float64), op.tensors["bias"]
    rows, groups = centred_weight(op), op.attrs["groups"]
    real = rows * scale.reshape(-1, *[1] * (rows.ndim - 1))
    real = real.reshape(groups, len(bias), *rows.shape[1:]).swapaxes(0, 1)
    tensors = {
        "weight": real.reshape(len(bias), -1, *rows.shape[2:]).astype(np.float32),
        "bias": (bias * scale[: len(bias)] * program.values[op.inputs[0]].scale).astype(np.float32),
    }
    return replace(op, attrs={**op.attrs, "groups": 1}, tensors=tensors)


def _add(writer: _Writer, op: Op) -> None:
    writer.finish(op, writer.node("Add", [writer.reals(name) for name in op.inputs], f"{op.output}/sum"))


def _concat(writer: _Writer, op: Op) -> None:
    parts = [writer.reals(name) for name in op.inputs]
    writer.finish(op, writer.node("Concat", parts, f"{op.output}/joined", axis=op.attrs["axis"] + 1))


def _avg_pool2d(writer: _Writer, op: Op) -> None:
    kernel, padding = tuple(op.attrs["kernel"]), op.attrs["padding"]
    kind, attributes = "GlobalAveragePool", {}
    if kernel != tuple(writer.program.values[op.inputs[0]].shape[1:]) or any(padding):
        kind = "AveragePool"
        attributes = {"kernel_shape": kernel, "strides": op.attrs["stride"], "pads": _ends(padding)}
        attributes["count_include_pad"] = 1
    writer.finish(op, writer.node(kind, [writer.reals(op.inputs[0])], f"{op.output}/mean", **attributes))


def _requantize(writer: _Writer, op: Op) -> None:
    writer.finish(op, writer.reals(op.inputs[0]))


def _max_pool2d(writer: _Writer, op: Op) -> None:
    a, values = op.attrs, writer.program.values
    # what ceil_mode adds is written as padding: runtimes disagree about windows that start beyond the input
    sizes = zip(values[op.inputs[0]].shape[1:], values[op.output].shape[1:], strict=True)
    behind = [
        max((out - 1) * stride + dilation * (kernel - 1) + 1 - size - before, 0)
        for (size, out), kernel, stride, before, dilation in zip(
            sizes, a["kernel"], a["stride"], a["padding"], a["dilation"], strict=True
        )
    ]
    writer.move(
        op,
        "MaxPool",
        kernel_shape=a["kernel"],
        strides=a["stride"],
        pads=[*a["padding"], *behind],
        dilations=a["dilation"],
    )


def _reshape(writer: _Writer, op: Op) -> None:
    shape = np.array([0, *op.attrs["shape"]], np.int64)  # 0: the batch, as it is
    writer.move(op, "Reshape", writer.constant(f"{op.output}/shape", shape))


def _pad(writer: _Writer, op: Op) -> None:
    value = writer.program.values[op.output]
    before, after = zip(*op.attrs["pads"], strict=True)
    pads = writer.constant(f"{op.output}/pads", np.array([0, *before, 0, *after], np.int64))
    zero = np.array(value.zero_point + storage_offset(value), np.uint8)
    writer.move(op, "Pad", pads, writer.constant(f"{op.output}/zero", zero))


def _slice(writer: _Writer, op: Op) -> None:
    a = op.attrs
    axes = range(1, len(a["starts"]) + 1)
    indices = {"starts": a["starts"], "ends": a["ends"], "axes": axes, "steps": a["steps"]}
    names = [writer.constant(f"{op.output}/{key}", np.array(rows, np.int64)) for key, rows in indices.items()]
    writer.move(op, "Slice", *names)


_WRITERS: Mapping[str, Callable[[_Writer, Op], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "float_conv2d": _conv2d,
    "float_linear": _linear,
    "group_conv2d": lambda writer, op: _conv2d(writer, _ungrouped(op, writer.program)),
    "group_linear": lambda writer, op: _linear(writer, _ungrouped(op, writer.program)),
    "add": _add,
    "concat": _concat,
    "avg_pool2d": _avg_pool2d,
    "requantize": _requantize,
    "max_pool2d": _max_pool2d,
    "reshape": _reshape,
    "pad": _pad,
    "slice": _slice,
}
