"""Random layers in groups: with ratios for each group of inputs, and convolutions of any groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Op, Program, Value
from tests.stages.integer.strategies import MODES


@st.composite
def groups(draw: st.DrawFn) -> Program:
    """A layer whose groups of input channels have ratios of their own, of real sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, size = draw(st.sampled_from([1, 2, 5, 12])), draw(st.sampled_from([1, 4, 16, 32, 33]))
    out = draw(st.sampled_from([1, 5, 16, 40, 100]))
    image = draw(st.booleans())
    kernel, padding = draw(st.sampled_from([((1, 1), (0, 0)), ((3, 3), (1, 1)), ((3, 2), (0, 1))]))
    stride = draw(st.sampled_from([(1, 1), (2, 1)]))
    room = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip((6, 7), padding, kernel, stride, strict=True)]
    rows = () if image else draw(st.sampled_from([(), (9,), (3, 2)]))
    levels = {"scale": 0.1, "zero_point": 3, "quant_min": -128, "quant_max": 127}
    shapes = {
        "x": (*rows, count * size, *((6, 7) if image else ())),
        "y": (*rows, out, *(room if image else ())),
    }
    values = {name: Value(name=name, shape=shape, **levels) for name, shape in shapes.items()}
    window = {"stride": stride, "padding": padding, "dilation": (1, 1)} if image else {}
    least = draw(st.sampled_from([-128, -8]))
    spread = rng.uniform(0.3, 3.0, count * out) / (
        -0.8 * least * np.sqrt(count * size * (np.prod(kernel) if image else 1))
    )
    residual = draw(st.booleans())

    def layer(output: str, inputs: tuple[str, ...]) -> Op:
        multiplier, shift = quantize_multiplier(spread * 2.0**5)
        tensors = {
            "weight": rng.integers(least, -least, (count * out, size, *(kernel if image else ()))).astype(
                np.int8
            ),
            "weight_scale": np.ones(count * out, np.float32),
            "weight_zero_point": rng.integers(-9, 10, count * out).astype(np.int32) * draw(st.integers(0, 1)),
            "bias": rng.integers(-500, 500, out).astype(np.int32),
            **{"multiplier": multiplier, "shift": shift, "ratio": spread.astype(np.float32)},
        }
        if len(inputs) == 2:
            multiplier, shift = quantize_multiplier(np.array([0.3 * 2.0**5]))
            tensors |= {"residual_multiplier": multiplier, "residual_shift": shift}
            tensors["residual_ratio"] = np.array([0.3], np.float32)
        op = "group_conv2d" if image else "group_linear"
        attrs = {**window, "groups": count, "headroom": 5, "act_min": -100, "act_max": 120}
        return Op(op=op, inputs=inputs, output=output, attrs=attrs, tensors=tensors)

    ops = [layer("y", ("x",))]
    if residual:
        values["z"] = replace(values["y"], name="z")
        ops.append(layer("z", ("x", "y")))
    mode = draw(st.sampled_from(MODES))
    return Program(values=values, ops=tuple(ops), input="x", output=ops[-1].output, requantize=mode)


@st.composite
def grouped(draw: st.DrawFn) -> Program:
    """A convolution in groups of any number and size, with as many outputs as inputs, or more, or fewer."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, size = (
        draw(st.sampled_from([2, 3, 4, 6, 7, 19, 32])),
        draw(st.sampled_from([1, 2, 3, 4, 8, 16, 24])),
    )
    out = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 16, 20, 24]))
    kernel, padding = draw(
        st.sampled_from([((1, 1), (0, 0)), ((3, 3), (1, 1)), ((1, 4), (0, 2)), ((7, 7), (3, 3))])
    )
    stride, dilation = (
        draw(st.sampled_from([(1, 1), (2, 2), (2, 1)])),
        draw(st.sampled_from([(1, 1), (1, 2)])),
    )
    shape = (6 + kernel[0], 9 + 2 * kernel[1])
    room = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(shape, padding, dilation, kernel, stride, strict=True)
    ]
    zero_points = rng.integers(-128, 128, count * out) * draw(st.sampled_from([0, 0, 1]))
    least = draw(st.sampled_from([-128, -128, -7]))
    zero_points = np.clip(zero_points, least, -least - 1)
    spread = rng.uniform(0.3, 1.5, count * out) / (-0.8 * least * np.sqrt(size * np.prod(kernel)))
    levels = {"scale": 0.1, "zero_point": 3, "quant_min": -128, "quant_max": 127}
    x = Value(name="x", shape=(count * size, *shape), **levels)
    values = {"x": x, "y": replace(x, name="y", shape=(count * out, *room))}
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": count}
    attrs |= {"act_min": -128, "act_max": 120}

    def layer(output: str, inputs: tuple[str, ...]) -> Op:
        headroom = 4 * (len(inputs) - 1)
        multiplier, shift = quantize_multiplier(spread * 2.0**headroom)
        tensors = {
            "weight": rng.integers(least, -least, (count * out, size, *kernel)).astype(np.int8),
            "weight_scale": np.ones(count * out, np.float32),
            "weight_zero_point": zero_points.astype(np.int32),
            "bias": rng.integers(-500, 500, count * out).astype(np.int32),
            **{"multiplier": multiplier, "shift": shift, "ratio": spread.astype(np.float32)},
        }
        if headroom:
            multiplier, shift = quantize_multiplier(np.array([0.3 * 2.0**headroom]))
            own = {"multiplier": multiplier, "shift": shift, "ratio": np.array([0.3], np.float32)}
            tensors |= {f"residual_{name}": array for name, array in own.items()}
        return Op(
            op="conv2d", inputs=inputs, output=output, attrs=attrs | {"headroom": headroom}, tensors=tensors
        )

    ops = [layer("y", ("x",))]
    if draw(st.booleans()):
        values["z"] = replace(values["y"], name="z")
        ops.append(layer("z", ("x", "y")))
    mode = draw(st.sampled_from(MODES))
    return Program(values=values, ops=tuple(ops), input="x", output=ops[-1].output, requantize=mode)
