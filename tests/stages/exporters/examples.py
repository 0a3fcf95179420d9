"""Programs whose ratios are those of their scales, so that they have a meaning in reals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.kernels.group_norm import size_of, spread_bits
from stages.integer.program import Op, Program, Value

X = Value(name="x", shape=(2,), scale=0.5, zero_point=-3, quant_min=-128, quant_max=127)
Y = Value(name="y", shape=(2,), scale=4.0, zero_point=7, quant_min=0, quant_max=254)


def consistent(program: Program) -> Program:
    """The same program with the ratios that its scales imply: random ones have no real interpretation."""
    values = program.values

    def ratios(op: Op) -> dict[str, np.ndarray]:
        y = values[op.output]
        scales = np.array([values[name].scale for name in op.inputs]) / y.scale
        if op.op in ("multiply", "matmul"):
            return {"ratio": (scales[:1] * values[op.inputs[1]].scale).astype(np.float32)}
        if op.op == "mean":
            shape = values[op.inputs[0]].shape
            count = np.prod([shape[axis] for axis in op.attrs["axes"]])
            return {"ratio": (scales / count).astype(np.float32)}
        if op.op == "resample":
            heaviest = [np.abs(op.tensors[name]).sum(axis=1).max() for name in ("rows", "columns")]
            return {"ratio": (scales / max(np.prod(heaviest), 1)).astype(np.float32)}
        if "weight" not in op.tensors:
            divisor = np.prod(op.attrs["kernel"]) if op.op == "avg_pool2d" else 1
            return {"ratio": (scales / divisor).astype(np.float32)}
        weight_scale, zero_point = np.broadcast_arrays(op.tensors["ratio"], op.tensors["weight_zero_point"])
        tensors = {
            "weight_scale": weight_scale.copy(),
            "weight_zero_point": zero_point.copy(),
            "ratio": (weight_scale * scales[0]).astype(np.float32),
        }
        return tensors | ({"residual_ratio": scales[1:].astype(np.float32)} if len(op.inputs) == 2 else {})

    ops = []
    for op in program.ops:
        if op.op in OWN:
            ops.append(OWN[op.op](op, values))
            continue
        if "ratio" not in op.tensors:
            ops.append(op)
            continue
        tensors = {**op.tensors, **ratios(op)}
        headroom = op.attrs.get("headroom", 0)
        for prefix in ("", "residual_"):
            if prefix + "ratio" in tensors:
                real = tensors[prefix + "ratio"].astype(np.float64) * 2.0**headroom
                tensors[prefix + "multiplier"], tensors[prefix + "shift"] = quantize_multiplier(real)
        ops.append(replace(op, tensors=tensors))
    return replace(program, ops=tuple(ops))


def symmetric(program: Program) -> Program:
    """The same operators on values of zero point 0 and levels −127..127, and weights of zero point 0."""

    def like(value: Value) -> Value:
        return replace(value, zero_point=0, quant_min=-127, quant_max=127)

    def shifted(op: Op) -> Op:
        y, attrs, tensors = program.values[op.output], dict(op.attrs), dict(op.tensors)
        if "act_min" in attrs:
            relu = attrs["act_min"] == y.zero_point
            attrs["act_min"] = 0 if relu else -127 + attrs["act_min"] - y.quant_min
            attrs["act_max"] = 127 - (y.quant_max - attrs["act_max"])
        if "weight_zero_point" in tensors:
            tensors["weight_zero_point"] = np.zeros_like(tensors["weight_zero_point"])
        for name in {"table", "levels"} & tensors.keys():
            middle = 128 if y.quant_min == 0 else 0
            tensors[name] = np.clip(tensors[name].astype(int) - middle, -127, 127).astype(np.int8)
        return replace(op, attrs=attrs, tensors=tensors)

    values = {name: like(value) for name, value in program.values.items()}
    return replace(program, values=values, ops=tuple(map(shifted, program.ops)))


def _softmax(op: Op, values: dict[str, Value]) -> Op:
    exponentials = np.exp(-values[op.inputs[0]].scale * np.arange(256)) * 2.0**26
    tensors = {
        "exponentials": np.rint(exponentials).astype(np.int32),
        "inverse_scale": np.array([round(2**14 / values[op.output].scale)], np.int64),
    }
    return replace(op, tensors=tensors)


def _layer_norm(op: Op, values: dict[str, Value]) -> Op:
    """An epsilon of 0.001, so that float32 tells the variance of nearly constant rows apart."""
    x = values[op.inputs[0]]
    return replace(op, attrs={**op.attrs, "epsilon": round(2**10 * x.shape[-1] ** 3 * 1e-3 / x.scale**2)})


def _as_it_is(op: Op, values: dict[str, Value]) -> Op:
    """Its scales follow from what it holds."""
    return op


def _group_norm(op: Op, values: dict[str, Value]) -> Op:
    """An epsilon of 0.001, likewise."""
    x = values[op.inputs[0]]
    size = size_of(x.shape, op.attrs["groups"])
    epsilon = round(2.0 ** spread_bits(size) * size**2 * 1e-3 / x.scale**2)
    return replace(op, attrs={**op.attrs, "epsilon": epsilon})


OWN = {
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _as_it_is,
}
"""Operators that hold scales in a form of their own, made consistent."""


def rounds(op: Op) -> bool:
    """Whether an operator computes, so that near-ties may differ; else it gives the very same levels."""
    return "ratio" in op.tensors or op.op in OWN


def layer(values: dict[str, Value], *, residual: bool, float_weights: bool = False) -> Program:
    """y = linear(x) [+ r], r the input itself."""
    weight = np.array([[3, -2], [127, 5]], np.int8)
    tensors = {
        "weight": weight,
        "weight_scale": np.array([0.5, 0.25], np.float32),
        "weight_zero_point": np.array([0, 1], np.int32),
        "bias": np.array([10, -4], np.int32),
        "ratio": np.array([0.5, 0.25], np.float32) * np.float32(values["x"].scale / values["y"].scale),
        "residual_ratio": np.array([values["x"].scale / values["y"].scale], np.float32),
    }
    if float_weights:
        tensors = {"weight": weight.astype(np.float32), "bias": np.array([0.5, -1.25], np.float32)}
    for prefix in ("", "residual_") if not float_weights else ():
        multiplier, shift = quantize_multiplier(tensors[prefix + "ratio"].astype(np.float64))
        tensors |= {prefix + "multiplier": multiplier, prefix + "shift": shift}
    if not residual:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("residual")}
    op = Op(
        op="float_linear" if float_weights else "linear",
        inputs=("x", "x") if residual else ("x",),
        output="y",
        attrs={"act_min": values["y"].quant_min, "act_max": values["y"].quant_max}
        | ({"headroom": 0} if residual and not float_weights else {}),
        tensors=tensors,
    )
    return Program(values=values, ops=(op,), input="x", output="y", requantize="float")
