"""Random programs brought to what TFLite can say: int8 levels, scales with a meaning, symmetric weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.kernel import signature
from stages.integer.program import Op, Program, Value

OPS = (
    "conv2d",
    "linear",
    "add",
    "subtract",
    "multiply",
    "maximum",
    "minimum",
    "concat",
    "requantize",
    "avg_pool2d",
    "max_pool2d",
    "reshape",
    "permute",
    "pad",
    "slice",
    "take",
    "table",
    "channel_table",
    "constant",
    "mean",
    "amax",
    "softmax",
    "upsample_nearest",
    "insert_zeros",
    "matmul",
)
"""What has a form in TFLite."""


def in_form(program: Program, seed: int = 0) -> Program:
    """The operators of a random program, with numbers that TFLite has too."""
    rng = np.random.default_rng(seed)
    values = {program.input: _value(rng, program.values[program.input])}
    ops = []
    for op in program.ops:
        y = _output(rng, op, program.values[op.output], values)
        values[y.name] = y
        ops.append(_operator(rng, op, values))
    return replace(program, values=values, ops=tuple(ops), requantize="tflm")


def _value(rng: np.random.Generator, value: Value) -> Value:
    scale = float(np.float32(rng.choice([0.0625, rng.uniform(0.01, 0.1)])))
    zero_point = int(rng.choice([-128, 0, 127, rng.integers(-128, 128)]))
    return replace(value, scale=scale, zero_point=zero_point, quant_min=-128, quant_max=127)


def _output(rng: np.random.Generator, op: Op, y: Value, values: dict[str, Value]) -> Value:
    if signature(op).ratios == "none" or op.op == "avg_pool2d":
        x = values[op.inputs[0]]
        names = ("scale", "zero_point", "quant_min", "quant_max")
        return replace(y, **{name: getattr(x, name) for name in names})
    y = _value(rng, y)
    return replace(y, scale=1 / 256, zero_point=-128) if op.op == "softmax" else y


def _operator(rng: np.random.Generator, op: Op, values: dict[str, Value]) -> Op:
    y, attrs, tensors = values[op.output], dict(op.attrs), dict(op.tensors)
    inputs = op.inputs[:1] if signature(op).layer or op.op == "softmax" else op.inputs
    scales = np.array([values[name].scale for name in inputs])
    if "act_min" in attrs:
        bounds = [(-128, 127), (y.zero_point, 127), (-120, 100)]
        attrs["act_min"], attrs["act_max"] = bounds[rng.integers(3)]
    if op.op in ("table", "channel_table", "constant"):
        name = "levels" if op.op == "constant" else "table"
        tensors[name] = rng.integers(-128, 128, tensors[name].shape).astype(np.int8)
    if op.op == "softmax":
        tensors = {
            "exponentials": np.rint(np.exp(-scales[0] * np.arange(256)) * 2.0**26).astype(np.int32),
            "inverse_scale": np.array([2**22], np.int64),
        }
    if "ratio" not in tensors:
        return replace(op, inputs=inputs, attrs=attrs, tensors=tensors)
    if op.op in ("multiply", "matmul"):
        scales = scales[:1] * scales[1]
    if op.op == "mean":
        scales = scales / math.prod(values[inputs[0]].shape[axis] for axis in attrs["axes"])
    if op.op == "avg_pool2d":
        scales = scales / math.prod(attrs["kernel"])
    if signature(op).layer:
        weight = tensors["weight"]
        channels = rng.choice([1, len(weight)])
        scale = rng.uniform(0.5, 2, channels) * 0.02 / math.sqrt(math.prod(weight.shape[1:]))
        tensors = {
            "weight": weight,
            "weight_scale": scale.astype(np.float32),
            "weight_zero_point": np.zeros(channels, np.int32),
            "bias": tensors["bias"],
        }
        scales = scales[0] * tensors["weight_scale"].astype(np.float64)
        attrs.pop("headroom", None)
    ratio = scales / y.scale
    tensors["ratio"] = ratio.astype(np.float32)
    headroom = attrs.get("headroom", 0)
    if headroom:  # as lower chooses it: the sum fits 30 bits
        headroom = attrs["headroom"] = max(0, 30 - math.ceil(math.log2(256 * ratio.sum() + 1)))
    tensors["multiplier"], tensors["shift"] = quantize_multiplier(ratio * 2.0**headroom)
    return replace(op, inputs=inputs, attrs=attrs, tensors=tensors)
