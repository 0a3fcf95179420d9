"""Worst cases of accumulators, from the actual weights and the levels of the input.

Each term ``(qx−zx)(qw−zw)`` ranges over an interval that contains 0, so the most positive sum takes every
term's most positive value, the most negative likewise, and every partial sum in any order lies between:

    high = Σ max_q (q−zx)(qw−zw)      low = Σ min_q (q−zx)(qw−zw)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.fixed_point import INT32_MAX, multiply_by_quantized_multiplier
from stages.integer.kernel import signature
from stages.integer.program import Op, Program, Value
from stages.integer.single_rounding import multiply_by_quantized_multiplier_single
from stages.integer.sums import check_sum, span
from stages.integer.validate import validate

INT16_MAX = 2**15 - 1
FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53
"""Below the latter two, every sum of integers is exact in that float type, in whatever order it is formed."""


def centred_weight(op: Op) -> NDArray[np.int32]:
    """``qw − zw``, the weight's shape; −255..255."""
    weight, zero_point = op.tensors["weight"], op.tensors["weight_zero_point"]
    centred: NDArray[np.int32] = weight.astype(np.int32)
    centred -= zero_point.reshape(-1, *[1] * (weight.ndim - 1))
    return centred


def product_bounds(op: Op, program: Program) -> NDArray[np.int64]:
    """The largest ``|Σ (qx−zx)(qw−zw)|`` of a conv2d or linear, partial sums included; int64 (O,)."""
    x = program.values[op.inputs[0]]
    low, high = _product_range(op, x)
    return np.maximum(high, -low)


def accumulator_bounds(op: Op, program: Program) -> NDArray[np.int64]:
    """The largest magnitude that an accumulator of an integer layer takes at any time; int64 (O,) or (G·O,).

    Covers the sum of products alone and with the bias, whichever is added first.
    """
    low, high = _product_range(op, program.values[op.inputs[0]])
    bias = np.pad(op.tensors["bias"].astype(np.int64), (0, len(low) - len(op.tensors["bias"])))
    bounds: NDArray[np.int64] = np.stack([high, -low, np.abs(high + bias), np.abs(low + bias)]).max(axis=0)
    return bounds


def layer_accumulators(program: Program) -> dict[str, int]:
    """By integer layer, the largest magnitude that any of its accumulators takes, whatever the input.

    Up to `INT16_MAX`, 16 bits would hold it.
    """
    layers = (op for op in program.ops if signature(op).accumulates)
    return {op.output: int(accumulator_bounds(op, program).max()) for op in layers}


def check_accumulators(program: Program) -> None:
    """Raise ValueError, naming the operator and its bound, where a sum of `program` can leave int32.

    The program itself is validated first.
    """
    validate(program)
    for op in program.ops:
        check_sum(op, program)
        if signature(op).accumulates:
            bounds = accumulator_bounds(op, program)
            channel = int(bounds.argmax())
            if bounds[channel] > INT32_MAX:
                raise ValueError(
                    f"'{op.output}' ({op.op}): the accumulator of output channel {channel} can reach "
                    f"{bounds[channel]}, beyond int32's {INT32_MAX}. Remedy: fewer bits for weights or "
                    "activations, or granularity=per_tensor where a channel's bias is large for its weights."
                )
        if program.requantize != "float" and "headroom" in op.attrs:
            bound = _sum_bound(op, program)
            if bound > INT32_MAX:
                raise ValueError(
                    f"'{op.output}' ({op.op}): the rescaled sum can reach {bound}, "
                    f"beyond int32's {INT32_MAX}. Remedy: a headroom below {op.attrs['headroom']}."
                )


def _product_range(op: Op, x: Value) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    weight = centred_weight(op).reshape(op.tensors["weight"].shape[0], -1).astype(np.int64)
    positive, negative = np.maximum(weight, 0).sum(axis=1), np.minimum(weight, 0).sum(axis=1)
    low, high = x.quant_min - x.zero_point, x.quant_max - x.zero_point
    return positive * low + negative * high, positive * high + negative * low


def _sum_bound(op: Op, program: Program) -> int:
    """The largest magnitude of the sum of rescaled terms of a sum, or of a layer with residual or groups."""
    if signature(op).ratios == "input":
        spans = [span(program.values[name]) for name in op.inputs]
        return int(_rescaled(np.array(spans), op, program).sum())
    terms = _rescaled(np.minimum(accumulator_bounds(op, program), INT32_MAX), op, program)
    bound = int(terms.reshape(-1, len(op.tensors["bias"])).sum(axis=0).max())
    if len(op.inputs) == 2:
        residual = span(program.values[op.inputs[1]])
        bound += int(_rescaled(np.array([residual]), op, program, "residual_").sum())
    return bound


def _rescaled(bounds: NDArray[Any], op: Op, program: Program, prefix: str = "") -> NDArray[np.int64]:
    """The largest magnitudes of terms; no mode rounds a negative operand further from zero."""
    single = program.requantize == "fixed_point_single"
    multiply = multiply_by_quantized_multiplier_single if single else multiply_by_quantized_multiplier
    return multiply(bounds, op.tensors[prefix + "multiplier"], op.tensors[prefix + "shift"]).astype(np.int64)
