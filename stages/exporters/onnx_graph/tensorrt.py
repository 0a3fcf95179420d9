"""The integer program as ONNX for TensorRT: explicit quantization, int8 with zero point 0.

Every value is ``QuantizeLinear → DequantizeLinear`` in int8, and nothing lies between the two: TensorRT
takes int8 from there alone. All else is float: what moves or selects takes reals, which gives the very same
levels; the bounds of an activation are a float Relu or Clip before the QuantizeLinear; biases are float; a
residual is added to a layer's real result, ``y = Q(act(conv(x) + DQ(r)))``, as the program rounds it. Weights
are int8 initializers with a scale an output channel. What TensorRT asks is in `tensorrt_rules`.

The narrow range −127..127 of symmetric levels has no bound of its own by default: int8 saturates at
−128, so that a real below −127.5 steps is a level lower than the program has it, while a Clip stands between
a convolution and its QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from stages.exporters.onnx_graph.operators import OPERATORS
from stages.exporters.onnx_graph.qdq import model_of
from stages.exporters.onnx_graph.writer import Writer
from stages.integer.program import Op, Program, Value

LOWEST, HIGHEST = -128, 127

KNOWN = frozenset(OPERATORS) - {"group_conv2d", "group_linear"}
"""Operators that have a form: layers of several scales a channel have none in int8."""


def fits(value: Value) -> bool:
    """Whether int8 with zero point 0 holds a value's levels as they are; numbers of tokens stay integers."""
    return value.counts or (value.zero_point == 0 and LOWEST <= value.quant_min <= value.quant_max <= HIGHEST)


def tensorrt_offset(value: Value) -> int:
    """What is added to levels to store them: nothing."""
    return 0


@dataclass
class TensorRtWriter(Writer):
    """Nodes and initializers in TensorRT's form; elements are reals."""

    moves_levels: ClassVar[bool] = False

    clip_narrow: bool = False

    def dtype(self, value: Value) -> np.dtype[Any]:
        """int8; int32 for numbers of tokens."""
        return np.dtype(np.int32 if value.counts else np.int8)

    def offset(self, value: Value) -> int:
        """What is added to levels to store them: nothing."""
        return tensorrt_offset(value)

    def quantize(self, real: str, value: Value, low: int, high: int) -> None:
        """``<name>/q`` of a real tensor, bounded before it is rounded."""
        bottom = LOWEST if self.clip_narrow else -HIGHEST
        if low == value.zero_point and high >= HIGHEST:
            real = self.node("Relu", [real], f"{value.name}/bounded")
        elif low > bottom or high < HIGHEST:
            real = self.clip(real, value, low, high)
        self._rounded(real, value)

    def stored(self, value: Value, levels: Any) -> NDArray[Any]:
        """Reals, but for numbers of tokens."""
        return super().stored(value, levels) if value.counts else self.real_levels(value, levels)

    def elements(self, name: str) -> str:
        """Reals, but for numbers of tokens."""
        return f"{name}/q" if self.program.values[name].counts else self.reals(name)

    def selected(self, op: Op, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        """The node, and the levels that its reals are."""
        y = self.program.values[op.output]
        if y.counts:
            super().selected(op, kind, inputs, **attributes)
        else:
            self._rounded(self.node(kind, inputs, f"{op.output}/moved", **attributes), y)

    def index(self, value: Value, output: str, kind: int = TensorProto.INT32) -> str:
        """Reals by their scale, counted from the first level of the program's dtype."""
        if value.counts:
            return super().index(value, output, kind)
        scale = self.constant(f"{output}/scale", np.array(value.scale, np.float32))
        first = np.array(-np.iinfo(value.dtype).min, np.float32)
        steps = self.node("Div", [self.reals(value.name), scale], f"{output}/steps")
        levels = self.node("Round", [steps], f"{output}/levels")
        places = self.node("Add", [levels, self.constant(f"{output}/first", first)], f"{output}/places")
        return self.node("Cast", [places], output, to=kind)

    def layer(self, op: Op, weight: NDArray[Any], axis: int = 0) -> list[str]:
        """The real input, the weight by a scale a channel, and a float bias."""
        if "weight_scale" not in op.tensors:  # a layer that stayed float
            return super().layer(op, weight, axis)
        channels = weight.shape[axis]
        scale = np.broadcast_to(op.tensors["weight_scale"].astype(np.float64), (channels,))
        name = f"{op.output}/weight"
        inputs = [
            self.constant(name, weight),
            self.constant(f"{name}/scale", scale.astype(np.float32)),
            self.constant(f"{name}/zero_point", np.zeros(channels, np.int8)),
        ]
        real = self.node("DequantizeLinear", inputs, f"{name}/dq", axis=axis)
        bias = op.tensors["bias"] * (self.program.values[op.inputs[0]].scale * scale)
        return [
            self.reals(op.inputs[0]),
            real,
            self.constant(f"{op.output}/bias", bias.astype(np.float32)),
        ]

    def kept_float(self, op: Op, real: str, value: Value, low: int) -> str:
        """The result as it is: TensorRT leaves float weights alone, and fuses a Relu."""
        return real

    def _rounded(self, real: str, value: Value) -> None:
        self.node("QuantizeLinear", [real, *self.value_parameters(value)], f"{value.name}/q")


def program_to_tensorrt(
    program: Program,
    batch: int | None = None,
    *,
    clip_narrow: bool = False,
    opset: int = 17,
    trace: bool = False,
) -> onnx.ModelProto:
    """Write `program`, all values of which `fits` holds, as an ONNX model for TensorRT.

    Args:
        program: what to write.
        batch: samples; None leaves the number open.
        clip_narrow: bound levels at −127 where the program does, see the module.
        opset: 17 to 25.
        trace: make every value's levels, ``<name>/q``, outputs too.
    """
    writer = TensorRtWriter(program, "exact", opset=opset, clip_narrow=clip_narrow)
    return model_of(writer, OPERATORS, batch, trace=trace)
