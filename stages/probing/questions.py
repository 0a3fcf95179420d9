"""Programs of one operator, and levels at which the ways to round disagree.

Three things tell roundings apart. A *tie*, positive or negative: half to even, half away from zero and half
up differ; ratios of scales that are powers of two give them. A sum just below a tie, which rounding twice
lifts over it: with a shift of n bits after the high product, one in ``2^(n+1)`` or so; moderate ratios give
them. And how the ratio is held: in float32, or in 31 bits, of scales multiplied in float32 or in double; odd
scales and large sums show it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.program import Integers, Op, Program, Value
from stages.integer.ratios import layer_rescaling, rescaling

FULL = {"act_min": -128, "act_max": 127}

ALL_LEVELS = np.arange(-128, 128, dtype=np.int8)

RATIOS = (0.5, 0.25, 2.0**-5, 2.0**-10, 0.7129, 0.3, 0.11, 0.0413, 0.0023, 1.37)
"""Ratios of a layer's channels: with ties, with frequent double roundings, and one above 1."""

TIES = (-97.5, -31.5, -0.5, 0.5, 17.5, 88.5)
"""Where a layer's sums lie, in levels of the output before its zero point."""

SCALES = ((0.5, 0.5), (0.04371, 0.0613))
"""Scales of a layer's input and output: whose ratio is exact, and odd ones."""

PAIRS = ((0.5, 0.25, 1.0), (0.5, 0.5, 1.0), (0.0437, 0.0319, 0.0611), (0.1, 0.0203, 0.09))
"""Scales of the operands and the result of a sum or product."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question to a runtime.

    Args:
        operator: whose arithmetic is asked for.
        program: of that operator and, beside it, constants and moves alone; int8 levels, TFLite's constraints
            kept. Its `requantize` does not matter.
        levels: input, (N, *shape).
        sums: of a layer, what its products and bias add up to, (N, *shape of the output); else None.
    """

    operator: str
    program: Program
    levels: Integers
    sums: Integers | None = None


def questions(operators: tuple[str, ...] | None = None) -> Iterator[Question]:
    """All questions of some operators, of all by default."""
    for operator, make in MAKERS.items():
        if operators is None or operator in operators:
            for program, levels, sums in make():
                yield Question(operator=operator, program=program, levels=levels, sums=sums)


Made = Iterator[tuple[Program, Integers, Integers | None]]


def _value(name: str, shape: tuple[int, ...], scale: float, zero_point: int) -> Value:
    return Value(
        name=name,
        shape=shape,
        scale=float(np.float32(scale)),
        zero_point=zero_point,
        quant_min=-128,
        quant_max=127,
    )


def _program(values: list[Value], *ops: Op) -> Program:
    return Program(
        values={value.name: value for value in values}, ops=ops, input=values[0].name, output=values[-1].name
    )


def _one(op: str, x: Value, y: Value, attrs: Mapping[str, Any], **tensors: NDArray[Any]) -> Program:
    return _program([x, y], Op(op=op, inputs=(x.name,), output=y.name, attrs=attrs, tensors=tensors))


def _layer(
    s_x: float, s_y: float, zero_point: int, ratios: tuple[float, ...] = RATIOS
) -> dict[str, NDArray[Any]]:
    """Weights' scale, bias and ratio of a layer whose channels have each ratio at each tie.

    The bias puts the sums at the tie; the input's levels, times 1, go through those around it.
    """
    real, tie = (column.reshape(-1) for column in np.meshgrid(ratios, TIES))
    x, y = np.float64(np.float32(s_x)), np.float64(np.float32(s_y))
    scale = (real * y / x).astype(np.float32)
    if len(ratios) == 1:
        scale = scale[:1]
    ratio = x * scale.astype(np.float64) / y
    middle = np.rint(tie / ratio - 0.5 + zero_point)
    return {
        "weight_scale": scale,
        "weight_zero_point": np.zeros(len(scale), np.int32),
        "bias": np.broadcast_to(middle, tie.shape).astype(np.int32),
        **layer_rescaling(_value("x", (), s_x, 0), scale, _value("y", (), s_y, 0)),
    }


def _linear(choices: tuple[tuple[float, ...], ...]) -> Made:
    """With a scale a channel, or one for all."""
    for (s_x, s_y), ratios in product(SCALES, choices):
        x, tensors = _value("x", (4,), s_x, -1), _layer(s_x, s_y, -1, ratios)
        channels = len(tensors["bias"])
        tensors["weight"] = np.tile(np.array([1, 0, 0, 0], np.int8), (channels, 1))
        levels = np.repeat(ALL_LEVELS[:, None], 4, axis=1)
        sums = levels[:, :1] - np.int32(x.zero_point) + tensors["bias"]
        yield _one("linear", x, _value("y", (channels,), s_y, 3), FULL, **tensors), levels, sums


def _conv(groups_of: Callable[[int], int]) -> Made:
    """The kernel's centre is 1 in the first channel of each group: sums are a level and the bias."""
    for s_x, s_y in SCALES:
        tensors = _layer(s_x, s_y, -1)
        channels = len(tensors["bias"])
        groups = groups_of(channels)
        size = channels if groups > 1 else 4
        tensors["weight"] = np.zeros((channels, size // groups, 3, 3), np.int8)
        tensors["weight"][:, 0, 1, 1] = 1
        attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": groups, **FULL}
        x, y = _value("x", (size, 16, 16), s_x, -1), _value("y", (channels, 16, 16), s_y, 3)
        levels = np.tile(ALL_LEVELS.reshape(1, 1, 16, 16), (1, size, 1, 1))
        sums = levels[:, :1] - np.int32(x.zero_point) + tensors["bias"].reshape(-1, 1, 1)
        yield _one("conv2d", x, y, attrs, **tensors), levels, sums


def _pair(op: str) -> Made:
    """All levels of one operand, each with 64 of the other, which is constant."""
    rng = np.random.default_rng(0)
    for s_x, s_c, s_y in PAIRS:
        x, c, y = (
            _value(name, (256, 64), scale, zero)
            for name, scale, zero in (("x", s_x, -1), ("c", s_c, 2), ("y", s_y, 3))
        )
        levels = {"levels": rng.integers(-128, 128, (256, 64)).astype(np.int8)}
        constant = Op(op="constant", inputs=("x",), output="c", tensors=levels)
        scales = np.array([x.scale, c.scale]) / y.scale
        attrs: dict[str, Any] = dict(FULL)
        if op == "multiply":  # int8 by int8
            tensors = rescaling(scales[:1] * c.scale)
        else:
            attrs["headroom"] = 30 - math.ceil(math.log2(256 * scales.sum()))
            tensors = rescaling(scales, attrs["headroom"])
        operator = Op(op=op, inputs=("x", "c"), output="y", attrs=attrs, tensors=tensors)
        yield _program([x, c, y], constant, operator), np.repeat(ALL_LEVELS[None, :, None], 64, axis=2), None


def _avg_pool2d() -> Made:
    """Scale and zero point stay, as TFLite wants it; it averages levels, our equation what is above zero."""
    rng = np.random.default_rng(1)
    for kernel in ((2, 2), (3, 3), (6, 5)):
        x = _value("x", (8, 6 * kernel[0], 6 * kernel[1]), 0.0437, 5)
        attrs = {"kernel": kernel, "stride": kernel, "padding": (0, 0), **FULL}
        ratio = rescaling(1.0 / math.prod(kernel))
        program = _one("avg_pool2d", x, _value("y", (8, 6, 6), 0.0437, 5), attrs, **ratio)
        yield program, rng.integers(-128, 128, (8, *x.shape)).astype(np.int8), None


def _mean() -> Made:
    rng = np.random.default_rng(2)
    for s_x, s_y, size in ((0.5, 0.5, 4), (0.5, 0.5, 6), (0.0437, 0.0311, 7)):
        x, y = _value("x", (16, size, size), s_x, -1), _value("y", (16,), s_y, 3)
        attrs = {"axes": (1, 2), "keepdim": False, **FULL}
        ratio = rescaling(x.scale / y.scale / size**2)
        levels = rng.integers(-128, 128, (64, *x.shape)).astype(np.int8)
        yield _one("mean", x, y, attrs, **ratio), levels, None


def _softmax() -> Made:
    rng = np.random.default_rng(3)
    for scale, size in ((0.0625, 10), (0.1, 4), (0.011, 3), (0.03, 1001)):
        x, y = _value("x", (size,), scale, 4), _value("y", (size,), 1 / 256, -128)
        tensors = {
            "exponentials": np.rint(np.exp(-x.scale * np.arange(256)) * 2.0**26).astype(np.int32),
            "inverse_scale": np.array([2**22], np.int64),
        }
        samples = max(4, 16384 // size)
        levels = rng.integers(-128, 128, (samples, size)).astype(np.int8)
        yield _one("softmax", x, y, {"axis": 0, **FULL}, **tensors), levels, None


def _requantize() -> Made:
    for s_x, s_y in ((0.5, 1.0), (0.5, 2.0), (0.25, 8.0), (0.0437, 0.0613), (0.0613, 0.0437), (0.1, 0.0203)):
        x, y = _value("x", (256,), s_x, -1), _value("y", (256,), s_y, 3)
        yield _one("requantize", x, y, FULL, **rescaling(x.scale / y.scale)), ALL_LEVELS[None], None


MAKERS: Mapping[str, Callable[[], Made]] = {
    "conv2d": lambda: _conv(lambda channels: 1),
    "depthwise conv2d": lambda: _conv(lambda channels: channels),
    "linear": lambda: _linear((RATIOS,)),
    "linear per tensor": lambda: _linear(tuple((ratio,) for ratio in RATIOS)),
    "add": lambda: _pair("add"),
    "subtract": lambda: _pair("subtract"),
    "multiply": lambda: _pair("multiply"),
    "avg_pool2d": _avg_pool2d,
    "mean": _mean,
    "softmax": _softmax,
    "requantize": _requantize,
}
"""Makers of questions by operator. Moves, extremes and tables round nothing."""
