"""Does this build of PyTorch, on this CPU, multiply 8-bit integers exactly?

Without VNNI, x86 kernels add two products of 8 bits in a saturating int16: 255 · 127 twice does not fit. The
probe runs layers of extreme values and compares them with the reference. Weights of −64..64 always fit.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from stages.backends.onednn_kernels.layers import Layers
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program, Value

CHANNELS, SIZE = 32, 4
LIMITS = ((-128, 127), (-64, 64))


@cache
def find_layers() -> Layers | str:
    """Layers with the widest weights that are exact here, or the reason why none are."""
    reason = ""
    for weight_min, weight_max in LIMITS:
        layers = Layers(weight_min=weight_min, weight_max=weight_max)
        try:
            if all(_is_exact(layers, program) for program in _extreme_programs()):
                return layers
            reason = reason or "its 8-bit products saturate on this CPU"
        except (AttributeError, RuntimeError) as error:
            reason = f"its quantized operators do not run here: {str(error).splitlines()[0]}"
    return reason


def _is_exact(layers: Layers, program: Program) -> bool:
    x, op = program.values[program.input], program.ops[0]
    random = np.random.default_rng(0).integers(0, 256, (1, *x.shape))
    q = np.concatenate([np.full_like(random, level) for level in (0, 255)] + [random]).astype(np.uint8)
    fast = layers.fast(op, program)
    return fast is None or np.array_equal(fast(q), prepare_kernel(op, program)(q))


def _extreme_programs() -> list[Program]:
    """One convolution, one depthwise convolution and one matrix product with weights of ±127."""
    signs = np.where(np.random.default_rng(1).random((CHANNELS, CHANNELS)) < 0.5, -127, 127)
    signs[0], signs[1] = 127, -127
    image = (CHANNELS, SIZE, SIZE)
    square = np.repeat(signs, 9).reshape(CHANNELS, CHANNELS, 3, 3)
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return [
        _program("conv2d", image, image, square, {**geometry, "groups": 1}),
        _program("conv2d", image, image, square[:, :1], {**geometry, "groups": CHANNELS}),
        _program("linear", (CHANNELS,), (CHANNELS,), signs, {}),
    ]


def _program(
    op: str, shape: tuple[int, ...], out: tuple[int, ...], weight: np.ndarray, attrs: dict[str, object]
) -> Program:
    largest = 255 * 127 * weight[0].size
    ratio = np.array([120.3 / largest])
    multiplier, shift = quantize_multiplier(ratio)
    layer = Op(
        op=op,
        inputs=("x",),
        output="y",
        attrs={**attrs, "act_min": 0, "act_max": 255},
        tensors={
            "weight": weight.astype(np.int8),
            "weight_scale": np.ones(1, np.float32),
            "weight_zero_point": np.zeros(1, np.int32),
            "bias": np.zeros(len(weight), np.int32),
            "multiplier": multiplier,
            "shift": shift,
            "ratio": ratio.astype(np.float32),
        },
    )
    x = Value(name="x", shape=shape, scale=1.0, zero_point=3, quant_min=0, quant_max=255)
    y = Value(name="y", shape=out, scale=1.0, zero_point=128, quant_min=0, quant_max=255)
    return Program(values={"x": x, "y": y}, ops=(layer,), input="x", output="y", requantize="float")
