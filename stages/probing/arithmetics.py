"""The arithmetics that a runtime may have: our profiles, and what else layers are known to be computed by.

A layer's sum ``s``, an int32, becomes a level by one of these, with ``M = multiplier · 2^(shift−31)``:

================  ===========================================================================================
our profiles      as `stages.integer.program` says
once, half away   ``s · M`` rounded once, ties away from zero
twice, half up    the high product as in `fixed_point`, then ``(h + 2^(n−1)) >> n``: ties up
================  ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import get_args

import numpy as np

from stages.integer.fixed_point import Int64, saturating_rounding_doubling_high_mul
from stages.integer.interpreter import Interpreter
from stages.integer.program import Integers, Op, Program, Requantize
from stages.probing.questions import Question

PROFILES: tuple[Requantize, ...] = get_args(Requantize)


def once_half_away(sums: Int64, multiplier: Int64, shift: Int64) -> Int64:
    """``s · M`` rounded once, ties away from zero; operands broadcast, sums below 2^31."""
    bits: Int64 = 31 - shift
    half: Int64 = np.left_shift(1, bits - 1)
    magnitude: Int64 = (np.abs(sums * multiplier) + half) >> bits
    rounded: Int64 = np.sign(sums) * magnitude
    return rounded


def twice_half_up(sums: Int64, multiplier: Int64, shift: Int64) -> Int64:
    """The high product, ties up, and the rest of the shift, ties up; operands broadcast, sums below 2^31."""
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = saturating_rounding_doubling_high_mul(sums << left, multiplier).astype(np.int64)
    half: Int64 = np.left_shift(1, right) >> 1
    rounded: Int64 = (high + half) >> right
    return rounded


OTHERS: Mapping[str, Callable[[Int64, Int64, Int64], Int64]] = {
    "once, half away": once_half_away,
    "twice, half up": twice_half_up,
}


def arithmetics(question: Question) -> dict[str, Integers]:
    """The integers of a question in each arithmetic that it has, by name."""
    program, levels = question.program, question.levels
    found = {str(name): _run(replace(program, requantize=name), levels) for name in PROFILES}
    if question.sums is None:
        return found
    (op,) = program.ops
    others = {name: _levels(op, program, question.sums, rounding) for name, rounding in OTHERS.items()}
    return {**found, **others}


def _run(program: Program, levels: Integers) -> Integers:
    return Interpreter(program, threads=1).run(levels)


def _levels(
    op: Op, program: Program, sums: Integers, rounding: Callable[[Int64, Int64, Int64], Int64]
) -> Integers:
    """Sums (N, O, …) to levels."""
    y = program.values[op.output]
    along = (-1, *[1] * (sums.ndim - 2))
    multiplier, shift = (op.tensors[name].astype(np.int64).reshape(along) for name in ("multiplier", "shift"))
    levels = rounding(sums.astype(np.int64), multiplier, shift) + y.zero_point
    return levels.clip(op.attrs["act_min"], op.attrs["act_max"]).astype(y.dtype)
