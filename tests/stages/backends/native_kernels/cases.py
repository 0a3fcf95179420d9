"""Random programs of all kinds that the engine runs whole, the same ones always."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from stages.backends.native_kernels.planner import Plan
from stages.backends.native_kernels.segments import parts
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Integers, Op, Program, Requantize, Value
from tests.stages.backends.native_kernels.kinds import KINDS
from tests.stages.backends.test_native import OVER_TOKENS, encoders, layers, moves, normalizations, products
from tests.stages.integer.strategies import MODES, programs, random_input

Case = tuple[Program, Integers, int]
"""A program, its input's levels, and how many threads share the work."""

STRATEGIES = (
    programs(modes=MODES, ranks=(2, 3, 4)),
    programs(modes=MODES, ops=OVER_TOKENS, ranks=(2, 2, 3, 4)),
    layers(),
    encoders(),
    normalizations(),
    moves(),
    products(),
    *KINDS.values(),
)


def cases(count: int) -> list[Case]:
    """Extreme programs, and `count` random ones of each kind but those that the engine does not run whole."""
    return [*extremes(), *(case for strategy in STRATEGIES for case in drawn(strategy, count))]


def extremes() -> Iterator[Case]:
    """Levels, weights and zero points at their ends, and depthwise convolutions of all numbers of channels.

    255·127 twice is more than int16 holds, and so is 255·(−128) twice: products of four saturate nowhere.
    """
    for mode in MODES:
        for weight in (127, -128):
            yield extreme(mode, weight), np.full((1, 40, 4, 5), 255, np.uint8), 1
    for channels in (16, 17, 32, 48, 64, 80, 96, 112, 144):
        for stride in (1, 2):
            for zero_point in (0, 127, -128):
                program = depthwise(channels, stride, zero_point)
                yield program, random_input(program, 1), 1
    for channels in (3, 4, 12, 16, 30, 40, 64, 70):
        for kernel in ((1, 1), (1, 3), (3, 1), (3, 2)):
            for stride, dilation in ((1, 1), (2, 1), (1, 2), (3, 2)):
                program = affine(channels, kernel, stride, dilation)
                yield program, random_input(program, 1), 1 + stride % 2


def extreme(mode: Requantize, weight: int) -> Program:
    """A 1 × 1 convolution of 40 channels whose weights are all alike."""
    sums = 255 * 40 * weight
    return _convolution(mode, np.full((19, 40, 1, 1), weight), ratio=120 / sums, shape=(40, 4, 5), out=(4, 5))


def depthwise(channels: int, stride: int, zero_point: int = 0) -> Program:
    """A depthwise 3 × 3 convolution with float ratios; weights with a zero point take up to three passes."""
    weight = np.random.default_rng(channels).integers(-128, 128, (channels, 1, 3, 3))
    if zero_point:
        weight[:3, 0, 1] = [[-128], [127], [zero_point]]
        weight[3::2] = np.clip(weight[3::2], min(0, zero_point), max(0, zero_point))
        weight[64:128] = zero_point // 2  # a block that takes one pass, among others
    out = ((7 - 3) // stride + 1, (9 - 3) // stride + 1)
    shape = (channels, 7, 9)
    return _convolution(
        "float",
        weight,
        ratio=0.002,
        shape=shape,
        out=out,
        stride=stride,
        groups=channels,
        zero_points=np.full(channels, zero_point),
    )


def affine(channels: int, kernel: tuple[int, int], stride: int, dilation: int) -> Program:
    """A convolution whose 84 output channels have zero points of their own, all but a few not 0."""
    rng = np.random.default_rng(channels)
    size = (9, 23)
    out = tuple((n + 2 - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True))
    return _convolution(
        "float",
        rng.integers(-128, 128, (84, channels, *kernel)),
        ratio=0.3 / (channels * kernel[0] * kernel[1]) / 100,
        shape=(channels, *size),
        out=(out[0], out[1]),
        stride=stride,
        dilation=dilation,
        padding=1,
        zero_points=rng.integers(-128, 128, 84) * (rng.random(84) < 0.9),
    )


def _convolution(
    mode: Requantize,
    weight: Integers,
    *,
    ratio: float,
    shape: tuple[int, ...],
    out: tuple[int, int],
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    padding: int = 0,
    zero_points: Integers | None = None,
) -> Program:
    multiplier, shift = quantize_multiplier(np.array([abs(ratio)]))
    zero_points = np.zeros(1, np.int32) if zero_points is None else zero_points
    tensors: dict[str, np.ndarray] = {
        "weight": weight.astype(np.int8),
        "weight_scale": np.ones(len(zero_points), np.float32),
        "weight_zero_point": zero_points.astype(np.int32),
        "bias": np.arange(len(weight), dtype=np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": np.array([abs(ratio)], np.float32),
    }
    attrs = {
        "stride": (stride,) * 2,
        "padding": (padding,) * 2,
        "dilation": (dilation,) * 2,
        "groups": groups,
    }
    attrs |= {"act_min": -128, "act_max": 127}
    op = Op(op="conv2d", inputs=("x",), output="y", attrs=attrs, tensors=tensors)
    values = {
        "x": Value(name="x", shape=shape, scale=1.0, zero_point=0, quant_min=0, quant_max=255),
        "y": Value(
            name="y", shape=(len(weight), *out), scale=1.0, zero_point=3, quant_min=-128, quant_max=127
        ),
    }
    return Program(values=values, ops=(op,), input="x", output="y", requantize=mode)


def drawn(strategy: st.SearchStrategy[Program], count: int) -> list[Case]:
    """Random ones that the engine runs whole, always the same."""
    found: list[Case] = []

    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(program=strategy, threads=st.integers(1, 2))
    def collect(program: Program, threads: int) -> None:
        if runs_whole(program):
            found.append((program, random_input(program, 2), threads))

    collect()
    return found


def runs_whole(program: Program) -> bool:
    """Whether the engine has steps for all of its operators."""
    found = parts(program, keep=False)
    return len(found) == 1 and isinstance(found[0], Plan)
