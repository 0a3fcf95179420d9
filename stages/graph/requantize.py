"""Requantization in torch: sums of centred levels to centred levels of the output, in the program's mode.

`stages.integer.requantizer` says what is computed; this computes the same, to the bit, over tensors that hold
whole numbers: float32 where all are below 2^24, float64 otherwise. Levels are *centred*, ``q − zero_point``:
what layers multiply, and real zero is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.integer.bounds import FLOAT32_EXACT
from stages.integer.fixed_point import INT32_MAX, INT32_MIN, Int32
from stages.integer.program import Op, Program


def float_type(bound: int) -> torch.dtype:
    """The float type in which whole numbers of magnitude `bound`, and all partial sums, are exact."""
    return torch.float32 if bound < FLOAT32_EXACT else torch.float64


@dataclass(frozen=True, kw_only=True)
class Requantizer:
    """What an operator does with its sums.

    Args:
        rescale: whole numbers to terms of the sum: float32 in the mode `float`, int64 in both fixed points.
            May overwrite its operand.
        finish: terms, which it overwrites, to centred levels, float32: the last rounding and the clamp.
    """

    rescale: Callable[[Tensor], Tensor]
    finish: Callable[[Tensor], Tensor]


def requantizer(
    op: Op, program: Program, *, prefix: str = "", index: int | None = None, channel: int | None = None
) -> Requantizer:
    """The requantization of an operator.

    Args:
        op: holds ratios and bounds.
        program: names the mode.
        prefix: ``residual_`` for the residual's ratio.
        index: which one of several ratios; None for all: one a channel, or one for all.
        channel: how many dimensions follow the channel's, where each channel has a ratio.
    """
    y = program.values[op.output]
    low, high = op.attrs["act_min"] - y.zero_point, op.attrs["act_max"] - y.zero_point
    pick = slice(None) if index is None else slice(index, index + 1)
    if program.requantize == "float":
        ratio = _by_channel(torch.from_numpy(op.tensors[prefix + "ratio"][pick]), channel)
        return Requantizer(
            rescale=lambda sums: sums.float() * ratio,
            finish=lambda terms: terms.round_().clamp_(low, high),
        )
    single = program.requantize == "fixed_point_single"
    fixed = _single_rounding if single else _double_rounding
    headroom = op.attrs.get("headroom", 0)
    half = (1 << headroom) >> 1

    def finish(terms: Tensor) -> Tensor:
        if headroom:
            if not single:
                terms += terms >> 63  # ties away from zero: one less where negative
            terms += half
            terms >>= headroom
        return terms.clamp_(low, high).float()

    rescale = fixed(op.tensors[prefix + "multiplier"][pick], op.tensors[prefix + "shift"][pick], channel)
    return Requantizer(rescale=lambda sums: rescale(sums.to(torch.int64)), finish=finish)


def _double_rounding(multiplier: Int32, shift: Int32, channel: int | None) -> Callable[[Tensor], Tensor]:
    """`stages.integer.fixed_point.fused_multiply` over int64 tensors, which it overwrites."""
    exponents = torch.from_numpy(shift).to(torch.int64)
    left, right = (_by_channel((sign * exponents).clamp(min=0), channel) for sign in (1, -1))
    factor = _by_channel(torch.from_numpy(multiplier).to(torch.int64), channel)
    half = (torch.ones_like(right) << right) >> 1
    nudge = 2**30 + (half << 31)
    sign_bit = torch.where(right > 0, INT32_MIN, 0)
    grows, twice = bool(left.any()), bool(right.any())

    def multiply(x: Tensor) -> Tensor:
        if grows:
            x.bitwise_left_shift_(left).clamp_(INT32_MIN, INT32_MAX)
        product = x * factor
        if twice:
            product += x.bitwise_and_(sign_bit)
        product += nudge
        return product.bitwise_right_shift_(right + 31)

    return multiply


def _single_rounding(multiplier: Int32, shift: Int32, channel: int | None) -> Callable[[Tensor], Tensor]:
    """`stages.integer.single_rounding.fused_multiply_single` over int64 tensors, which it overwrites."""
    right = _by_channel(31 - torch.from_numpy(shift).to(torch.int64), channel)
    factor = _by_channel(torch.from_numpy(multiplier).to(torch.int64), channel)
    half = torch.ones_like(right) << (right - 1)
    grows = bool((right < 31).any())

    def multiply(x: Tensor) -> Tensor:
        x.mul_(factor).add_(half).bitwise_right_shift_(right)
        return x.clamp_(INT32_MIN, INT32_MAX) if grows else x

    return multiply


def _by_channel(values: Tensor, channel: int | None) -> Tensor:
    """One number a channel, in a shape that broadcasts; one for all as shape ()."""
    if len(values) == 1:
        return values[0]
    return values if channel is None else values.reshape(-1, *[1] * channel)
