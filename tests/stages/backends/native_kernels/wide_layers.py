"""Convolutions wide enough for panels, weights of many distributions, levels of 7 bits and of 8."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Integers, Op, Program, Value
from tests.stages.integer.strategies import MODES

WEIGHTS = ("uniform", "normal", "narrow", "laplace", "most", "least", "two ends", "zero")
LEVELS = ("all", "most", "least", "near", "few far", "a dense corner")


def drawn_weights(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """int8 weights of a distribution."""
    ends = {"most": 127, "least": -128, "zero": 0}
    if kind in ends:
        return np.full(shape, ends[kind], np.int8)
    drawn = {
        "uniform": lambda: rng.integers(-128, 128, shape),
        "normal": lambda: rng.normal(0, 40, shape),
        "narrow": lambda: rng.integers(-8, 8, shape),
        "laplace": lambda: rng.laplace(0, 14, shape),
        "two ends": lambda: rng.choice([-128, 127], shape),
    }[kind]()
    return np.clip(drawn, -128, 127).astype(np.int8)


def drawn_levels(kind: str, program: Program, samples: int, rng: np.random.Generator) -> Integers:
    """uint8 levels, few or many of which lie far from the zero point."""
    x = program.values[program.input]
    shape = (samples, *x.shape)
    near = np.clip(x.zero_point + rng.normal(0, 20, shape), 0, 255)
    if kind == "all":
        near = rng.integers(0, 256, shape)
    elif kind in ("most", "least"):
        near[:] = 255 if kind == "most" else 0
    elif kind == "few far":
        near = np.where(rng.random(shape) < 0.02, rng.integers(0, 256, shape), near)
    elif kind == "a dense corner":
        near[:, :, -1, -3:] = 255
    return near.astype(np.uint8)


@st.composite
def wide_layers(draw: st.DrawFn) -> Program:
    """A convolution by panels, perhaps with a residual."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cases = [((1, 1), 96), ((1, 1), 130), ((3, 3), 12), ((3, 3), 32), ((2, 5), 10)]
    kernel, channels = draw(st.sampled_from(cases))
    outputs = draw(st.sampled_from([20, 32, 50, 64, 112]))
    padding = draw(st.sampled_from([(0, 0), (1, 1)]))
    stride, dilation = draw(st.sampled_from([((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 2))]))
    size = tuple(draw(st.sampled_from([5, 9, 14])) + 2 * k for k in kernel)
    shape = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
    )
    weight = drawn_weights(draw(st.sampled_from(WEIGHTS)), (outputs, channels, *kernel), rng)
    affine = draw(st.booleans())
    zero_point = rng.integers(-20, 20, outputs) if affine else np.zeros(1, int)
    residual = draw(st.booleans())
    headroom = 4 if residual else 0
    ratio = rng.uniform(0.5, 2.0, outputs) / (3000.0 * np.sqrt(weight[0].size))
    multiplier, shift = quantize_multiplier(ratio * 2.0**headroom)
    tensors = {
        "weight": weight,
        "weight_scale": np.ones(len(zero_point), np.float32),
        "weight_zero_point": zero_point.astype(np.int32),
        "bias": rng.integers(-3000, 3000, outputs).astype(np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": ratio.astype(np.float32),
    }
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 1}
    attrs |= {"act_min": -128, "act_max": 127}
    at = draw(st.sampled_from([0, 10, 64, 100, 128, 200, 255]))
    x = Value(name="x", shape=(channels, *size), scale=1.0, zero_point=at, quant_min=0, quant_max=255)
    y = Value(name="y", shape=(outputs, *shape), scale=1.0, zero_point=3, quant_min=-128, quant_max=127)
    values, ops, inputs = {"x": x, "y": y}, [], ("x",)
    if residual:
        values["r"] = replace(y, name="r")
        ops.append(Op(op="conv2d", inputs=("x",), output="r", attrs=attrs, tensors=tensors))
        multiplier, shift = quantize_multiplier(np.array([0.75 * 2.0**headroom]))
        own = {"multiplier": multiplier, "shift": shift, "ratio": np.array([0.75], np.float32)}
        tensors = tensors | {f"residual_{name}": array for name, array in own.items()}
        attrs, inputs = attrs | {"headroom": headroom}, ("x", "r")
    ops.append(Op(op="conv2d", inputs=inputs, output="y", attrs=attrs, tensors=tensors))
    mode = draw(st.sampled_from(MODES))
    return Program(values=values, ops=tuple(ops), input="x", output="y", requantize=mode)
