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
    """Levels and weights at their ends, and depthwise convolutions of all numbers of channels in a block.

    255·127 twice is more than int16 holds, and so is 255·(−128) twice: products of four saturate nowhere.
    """
    for mode in MODES:
        for weight in (127, -128):
            yield extreme(mode, weight), np.full((1, 40, 4, 5), 255, np.uint8), 1
    for channels in (16, 17, 32, 48, 64, 80, 96, 112, 144):
        for stride in (1, 2):
            program = depthwise(channels, stride)
            yield program, random_input(program, 1), 1


def extreme(mode: Requantize, weight: int) -> Program:
    """A 1 × 1 convolution of 40 channels whose weights are all alike."""
    sums = 255 * 40 * weight
    return _convolution(mode, np.full((19, 40, 1, 1), weight), ratio=120 / sums, shape=(40, 4, 5), out=(4, 5))


def depthwise(channels: int, stride: int) -> Program:
    """A depthwise 3 × 3 convolution with float ratios."""
    weight = np.random.default_rng(channels).integers(-128, 128, (channels, 1, 3, 3))
    out = ((7 - 3) // stride + 1, (9 - 3) // stride + 1)
    shape = (channels, 7, 9)
    return _convolution("float", weight, ratio=0.002, shape=shape, out=out, stride=stride, groups=channels)


def _convolution(
    mode: Requantize,
    weight: Integers,
    *,
    ratio: float,
    shape: tuple[int, ...],
    out: tuple[int, int],
    stride: int = 1,
    groups: int = 1,
) -> Program:
    multiplier, shift = quantize_multiplier(np.array([abs(ratio)]))
    tensors = {
        "weight": weight.astype(np.int8),
        "weight_scale": np.ones(1, np.float32),
        "weight_zero_point": np.zeros(1, np.int32),
        "bias": np.arange(len(weight), dtype=np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": np.array([abs(ratio)], np.float32),
    }
    attrs = {"stride": (stride, stride), "padding": (0, 0), "dilation": (1, 1), "groups": groups}
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
