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

Levels = NDArray[Any]
INPUT_BITS = 4
"""Integer bits of what logistic and tanh take."""


def _fixed_input(q: Levels, x: Value) -> tuple[Levels, Levels]:
    """``s·(q − z)`` with 4 integer bits, and −1, 1 where it lies beyond them, else 0."""
    multiplier, shift = quantize_multiplier(x.scale * 2.0 ** (31 - INPUT_BITS))
    radius = math.floor((2**INPUT_BITS - 1) * 2.0 ** (31 - INPUT_BITS) / 2.0 ** int(shift))
    centred = q - x.zero_point
    beyond = np.where(centred <= -radius, -1, np.where(centred >= radius, 1, 0))
    inside = np.where(beyond == 0, centred, 0)
    return multiply_by_quantized_multiplier(inside, multiplier, shift).astype(np.int64), beyond


def _logistic(q: Levels, x: Value, y: Value, op: TfliteOperator) -> Levels:
    """Source: reference/integer_ops/logistic.h. The output has scale 1/256 and zero point −128."""
    if (y.scale, y.zero_point) != (1 / 256, y.quant_min):
        raise ValueError(f"scale={y.scale}, zero_point={y.zero_point}: must be 1/256 and {y.quant_min}")
    real, beyond = _fixed_input(q, x)
    result = rounding_divide_by_pot(logistic(real, INPUT_BITS), 31 - 8)
    return np.where(beyond == 0, result, np.where(beyond < 0, 0, 255)) + y.zero_point


def _tanh(q: Levels, x: Value, y: Value, op: TfliteOperator) -> Levels:
    """Source: reference/integer_ops/tanh.h. The output has scale 1/128 and zero point 0."""
    middle = (y.quant_min + y.quant_max + 1) // 2
    if (y.scale, y.zero_point) != (1 / 128, middle):
        raise ValueError(f"scale={y.scale}, zero_point={y.zero_point}: must be 1/128 and {middle}")
    real, beyond = _fixed_input(q, x)
    result = rounding_divide_by_pot(tanh(real, INPUT_BITS), 31 - 7)
    return np.where(beyond == 0, result, beyond * 128) + y.zero_point


def _leaky_relu(q: Levels, x: Value, y: Value, op: TfliteOperator) -> Levels:
    """Source: reference/leaky_relu.h, QuantizeLeakyRelu."""
    slope = float(np.float32(op.option(0, "f", 0.0)))
    if slope < 0:
        raise ValueError(f"alpha={slope}: must not be negative")
    centred = q - x.zero_point
    own = multiply_by_quantized_multiplier(centred, *quantize_multiplier(x.scale / y.scale))
    less = multiply_by_quantized_multiplier(centred, *quantize_multiplier(x.scale * slope / y.scale))
    return np.where(centred >= 0, own, less) + y.zero_point


TABLES: Mapping[str, Callable[[Levels, Value, Value, TfliteOperator], Levels]] = {
    "LOGISTIC": _logistic,
    "TANH": _tanh,
    "LEAKY_RELU": _leaky_relu,
}
"""By operator."""
