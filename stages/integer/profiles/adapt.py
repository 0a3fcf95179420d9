"""Our programs in the form that a foreign runtime has for them: `to_tflm`.

Levels become signed, unsigned ones lowered by 128. Where TFLite has an operator in fewer cases than we, it is
taken apart: a layer with a residual becomes the layer and a sum, so that its own result is rounded to 8 bits;
pools keep scale and zero point, softmax gives 1/256 and −128, joined values have one scale, and `requantize`
stands where scales change. What has no counterpart at all stays, and exporters refuse it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.bounds import centred_weight
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling
from stages.integer.unsigned import OFFSET
from stages.integer.unsummed import unsummed

EIGHT_BITS = 254
"""A span of levels from which on a value has 8 bits, and its ends are those of int8."""

SOFTMAX_SCALE, SOFTMAX_ZERO_POINT = 1.0 / 256.0, -128


def to_tflm(program: Program) -> Program:
    """The program in TFLite's form, with its arithmetic; itself where it is in that form."""
    if program.requantize == "tflm":
        return program
    form = _Form(values={name: _signed(value) for name, value in program.values.items()})
    for op in program.ops:
        form.take(_signed_op(op, program))
    return Program(
        values=form.values,
        ops=tuple(form.ops),
        input=program.input,
        output=program.output,
        requantize="tflm",
    )


def layer_ratio(x: Value, weight_scale: NDArray[np.float32], y: Value) -> NDArray[np.float64]:
    """``s_x · s_w / s_y`` in double precision, as the runtime prepares it: (1,) or (O,).

    Where levels are uint8 and the weight has one scale, as in files of the old style, ``s_x · s_w`` is formed
    in float32. Source: kernel_util.cc, GetQuantizedConvolutionMultipler; measured on tflite-micro and LiteRT.
    """
    product = x.scale * weight_scale.astype(np.float64)
    if x.dtype == np.uint8 and len(weight_scale) == 1:
        product = (np.float32(x.scale) * weight_scale).astype(np.float64)
    ratio: NDArray[np.float64] = product / y.scale
    return ratio


@dataclass
class _Form:
    """The program as far as it has been brought into the form."""

    values: dict[str, Value]
    ops: list[Op] = field(default_factory=list)

    def take(self, op: Op) -> None:
        """Append an operator in its form."""
        special = {
            "conv2d": self._layer,
            "linear": self._layer,
            "avg_pool2d": self._avg_pool2d,
            "softmax": self._softmax,
            "concat": self._concat,
            "add": self._sum,
            "subtract": self._sum,
        }.get(op.op)
        if special is None:
            self.ops.append(op)
        else:
            special(op)

    def _layer(self, op: Op) -> None:
        x, y = self.values[op.inputs[0]], self.values[op.output]
        attrs = {name: value for name, value in op.attrs.items() if name != "headroom"}
        tensors = {name: op.tensors[name] for name in ("bias", "weight_scale")} | _symmetric(op)
        if len(op.inputs) == 1:
            tensors |= rescaling(layer_ratio(x, op.tensors["weight_scale"], y))
            self.ops.append(replace(op, attrs=attrs, tensors=tensors))
            return
        own = unsummed(op, self.values[op.inputs[1]], y)
        own = self._new(own.name, _signed(own))
        tensors |= rescaling(layer_ratio(x, op.tensors["weight_scale"], own))
        attrs |= {"act_min": own.quant_min, "act_max": own.quant_max}
        self.ops.append(replace(op, inputs=op.inputs[:1], output=own.name, attrs=attrs, tensors=tensors))
        bounds = {name: op.attrs[name] for name in ("act_min", "act_max")}
        self._sum(Op(op="add", inputs=(own.name, op.inputs[1]), output=op.output, attrs=bounds))

    def _sum(self, op: Op) -> None:
        scale = self.values[op.output].scale
        ratio = [self.values[name].scale / scale for name in op.inputs]
        self.ops.append(replace(op, attrs={**op.attrs, "headroom": 0}, tensors=rescaling(ratio)))

    def _avg_pool2d(self, op: Op) -> None:
        x, y = self.values[op.inputs[0]], self.values[op.output]
        if any(op.attrs["padding"]):  # counted, as zeros, and TFLite's does not count
            pads = ((0, 0), *((pad, pad) for pad in op.attrs["padding"]))
            shape = tuple(size + 2 * pad for size, (pad, _) in zip(x.shape, pads, strict=True))
            padded = self._new(f"{op.output}/padded", replace(x, shape=shape))
            self.ops.append(Op(op="pad", inputs=(x.name,), output=padded.name, attrs={"pads": pads}))
            x = padded
        pooled = self._like(x, y, f"{op.output}/pooled")
        attrs = {**op.attrs, "padding": (0, 0), **self._bounds(op, pooled, y)}
        tensors = rescaling(1.0 / math.prod(op.attrs["kernel"]))
        self.ops.append(replace(op, inputs=(x.name,), output=pooled.name, attrs=attrs, tensors=tensors))
        self._bring(pooled, y, op)

    def _softmax(self, op: Op) -> None:
        if len(op.inputs) > 1:  # leaves entries out: TFLite has no such operator
            self.ops.append(op)
            return
        y = self.values[op.output]
        form = replace(y, scale=SOFTMAX_SCALE, zero_point=SOFTMAX_ZERO_POINT, quant_min=-128, quant_max=127)
        shares = self._like(form, y, f"{op.output}/shares")
        inverse = np.array([round(2**14 / SOFTMAX_SCALE)], np.int64)
        attrs = {**op.attrs, **self._bounds(op, shares, y)}
        tensors = {**op.tensors, "inverse_scale": inverse}
        self.ops.append(replace(op, output=shares.name, attrs=attrs, tensors=tensors))
        self._bring(shares, y, op)

    def _concat(self, op: Op) -> None:
        y = self.values[op.output]
        names = []
        for index, name in enumerate(op.inputs):
            x = self.values[name]
            if (x.scale, x.zero_point) != (y.scale, y.zero_point):
                brought = self._new(f"{op.output}/part{index}", replace(y, shape=x.shape))
                self._bring(x, brought, op)
                name = brought.name
            names.append(name)
        self.ops.append(replace(op, inputs=tuple(names), tensors=rescaling([1.0] * len(names))))

    def _new(self, name: str, value: Value) -> Value:
        """A further value, of that name."""
        self.values[name] = replace(value, name=name)
        return self.values[name]

    def _like(self, x: Value, y: Value, name: str) -> Value:
        """The output itself where it has the scale and zero point of `x`; else a value of `name` that has."""
        if (x.scale, x.zero_point) == (y.scale, y.zero_point):
            return y
        return self._new(name, replace(x, shape=y.shape))

    @staticmethod
    def _bounds(op: Op, own: Value, y: Value) -> dict[str, int]:
        """The clamp where the operator gives the output itself; none where `requantize` follows."""
        if own.name == y.name:
            return {name: op.attrs[name] for name in ("act_min", "act_max")}
        return {"act_min": own.quant_min, "act_max": own.quant_max}

    def _bring(self, x: Value, y: Value, op: Op) -> None:
        """Requantize `x` to `y` by the clamp of `op`, where they are two values."""
        if x.name == y.name:
            return
        bounds = {name: op.attrs[name] for name in ("act_min", "act_max")}
        tensors = rescaling(x.scale / y.scale)
        self.ops.append(Op(op="requantize", inputs=(x.name,), output=y.name, attrs=bounds, tensors=tensors))


def _signed(value: Value) -> Value:
    """Signed levels, at all of int8 where they are 8 bits; a float32 scale."""
    scale = float(np.float32(value.scale))
    if value.wide:
        return replace(value, scale=scale)
    offset = _offset(value)
    low, high = value.quant_min - offset, value.quant_max - offset
    if high - low >= EIGHT_BITS:
        low, high = -128, 127
    return replace(value, scale=scale, zero_point=value.zero_point - offset, quant_min=low, quant_max=high)


def _offset(value: Value) -> int:
    return 0 if value.wide or value.dtype == np.int8 else OFFSET


def _signed_op(op: Op, program: Program) -> Op:
    """Bounds and levels as those of signed values; a bound that is an end of 8 bits is one of int8."""
    y = program.values[op.output]
    offset, new = _offset(y), _signed(y)
    attrs, tensors = dict(op.attrs), dict(op.tensors)
    for name, old_end, new_end in (
        ("act_min", y.quant_min, new.quant_min),
        ("act_max", y.quant_max, new.quant_max),
    ):
        if name in attrs:
            attrs[name] = new_end if attrs[name] == old_end else attrs[name] - offset
    for name in {"table", "levels"} & tensors.keys() if offset else ():
        tensors[name] = (tensors[name].astype(np.int16) - offset).astype(np.int8)
    return replace(op, attrs=attrs, tensors=tensors)


def _symmetric(op: Op) -> dict[str, NDArray[Any]]:
    """A layer's weight as int8 around zero; as it is where it does not fit, which exporters refuse."""
    weight = centred_weight(op)
    if weight.min(initial=0) < -127 or weight.max(initial=0) > 127:
        return {name: op.tensors[name] for name in ("weight", "weight_zero_point")}
    return {
        "weight": weight.astype(np.int8),
        "weight_zero_point": np.zeros(op.tensors["weight_zero_point"].shape, np.int32),
    }
