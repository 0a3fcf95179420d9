"""Functions of one value, as TFLite Micro computes them, each over all levels of its input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.importers.tflite_file.contents import TfliteOperator
from stages.integer.fixed_point import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
)
from stages.integer.profiles.tflm.gemmlowp import logistic, tanh
from stages.integer.program import Value

LevelArray = NDArray[Any]
INPUT_BITS = 4
"""Integer bits of what logistic and tanh take."""


def _fixed_input(q: LevelArray, x: Value) -> tuple[LevelArray, LevelArray]:
    """``s·(q − z)`` with 4 integer bits, and −1, 1 where it lies beyond them, else 0."""
    multiplier, shift = quantize_multiplier(x.scale * 2.0 ** (31 - INPUT_BITS))
    radius = math.floor((2**INPUT_BITS - 1) * 2.0 ** (31 - INPUT_BITS) / 2.0 ** int(shift))
    centred = q - x.zero_point
    beyond = np.where(centred <= -radius, -1, np.where(centred >= radius, 1, 0))
    inside = np.where(beyond == 0, centred, 0)
    return multiply_by_quantized_multiplier(inside, multiplier, shift).astype(np.int64), beyond


def _logistic(q: LevelArray, x: Value, y: Value, op: TfliteOperator) -> LevelArray:
    """Source: reference/integer_ops/logistic.h. The output has scale 1/256 and zero point −128."""
    if (y.scale, y.zero_point) != (1 / 256, y.quant_min):
        raise ValueError(f"scale={y.scale}, zero_point={y.zero_point}: must be 1/256 and {y.quant_min}")
    real, beyond = _fixed_input(q, x)
    result = rounding_divide_by_pot(logistic(real, INPUT_BITS), 31 - 8)
    return np.where(beyond == 0, result, np.where(beyond < 0, 0, 255)) + y.zero_point


def _tanh(q: LevelArray, x: Value, y: Value, op: TfliteOperator) -> LevelArray:
    """Source: reference/integer_ops/tanh.h. The output has scale 1/128 and zero point 0."""
    middle = (y.quant_min + y.quant_max + 1) // 2
    if (y.scale, y.zero_point) != (1 / 128, middle):
        raise ValueError(f"scale={y.scale}, zero_point={y.zero_point}: must be 1/128 and {middle}")
    real, beyond = _fixed_input(q, x)
    result = rounding_divide_by_pot(tanh(real, INPUT_BITS), 31 - 7)
    return np.where(beyond == 0, result, beyond * 128) + y.zero_point


def _leaky_relu(q: LevelArray, x: Value, y: Value, op: TfliteOperator) -> LevelArray:
    """Source: reference/leaky_relu.h, QuantizeLeakyRelu."""
    slope = float(np.float32(op.option(0, "f", 0.0)))
    if slope < 0:
        raise ValueError(f"alpha={slope}: must not be negative")
    centred = q - x.zero_point
    scale, out = np.float32(x.scale), np.float32(y.scale)  # ratios are float32 products and quotients
    own = multiply_by_quantized_multiplier(centred, *quantize_multiplier(float(scale / out)))
    ratio = float(scale * np.float32(slope) / out)
    less = multiply_by_quantized_multiplier(centred, *quantize_multiplier(ratio))
    return np.where(centred >= 0, own, less) + y.zero_point


def _hard_swish(q: LevelArray, x: Value, y: Value, op: TfliteOperator) -> LevelArray:
    """``x · relu6(x + 3) / 6`` in 16 bits. Source: reference/hard_swish.h; hard_swish_common.cc."""
    fine = (q - x.zero_point) * 128
    scale = np.float32(1 / 128) * np.float32(x.scale)
    output, down = _short_multiplier(float(scale / np.float32(y.scale)))
    share, up = _short_multiplier(float(scale / (np.float32(3.0) / np.float32(32768.0))))
    if down > 0:
        raise ValueError(f"input of scale {x.scale}: must be below 128 times the output's {y.scale}")
    unshifted = _doubling_high_product(fine, output)
    gate = fine if up <= 0 else _short(fine << (up - 1))
    gate = _doubling_high_product(gate, share)
    gate = _short(gate * 2) if up > 0 else rounding_divide_by_pot(gate, -up)
    gate = (gate.astype(np.int64) + 2**15) >> 1
    product = gate * unshifted
    towards_zero = np.sign(product) * (np.abs(product) >> 15)
    return rounding_divide_by_pot(towards_zero, -down) + y.zero_point


def _short_multiplier(real: float) -> tuple[int, int]:
    """A ratio as a multiplier of 16 bits and an exponent (DownScaleInt32ToInt16Multiplier)."""
    multiplier, exponent = (int(part) for part in quantize_multiplier(real))
    return min((multiplier + 2**15) >> 16, 2**15 - 1), exponent


def _short(a: LevelArray) -> LevelArray:
    return np.clip(a, -(2**15), 2**15 - 1)


def _doubling_high_product(a: LevelArray, b: int) -> LevelArray:
    """``a·b / 2^15``, half away from zero, for 16 bits (gemmlowp's SaturatingRoundingDoublingHighMul)."""
    product = a.astype(np.int64) * b
    nudged = product + np.where(product >= 0, 2**14, 1 - 2**14)
    return _short(np.sign(nudged) * (np.abs(nudged) >> 15))


TABLES: Mapping[str, Callable[[LevelArray, Value, Value, TfliteOperator], LevelArray]] = {
    "LOGISTIC": _logistic,
    "TANH": _tanh,
    "LEAKY_RELU": _leaky_relu,
    "HARD_SWISH": _hard_swish,
}
"""By operator."""
