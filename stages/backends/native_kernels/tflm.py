"""The steps of TensorFlow Lite Micro's own operators (`stages.integer.profiles.tflm`)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stages.backends.native_kernels.planner import Draft, Pins
from stages.backends.native_kernels.ratios import geometry, ratio
from stages.backends.native_kernels.structures import StepKind
from stages.backends.native_kernels.sums import OPERATIONS, row_maps, unscaled
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.kernel import has_profile
from stages.integer.profiles.tflm.add import LEFT_SHIFT
from stages.integer.profiles.tflm.mean import dividing
from stages.integer.profiles.tflm.softmax import exponential_tables
from stages.integer.program import Op, Program


def in_profile(op: Op, program: Program, levels: Program) -> Op:
    """An operator as its program's arithmetic has it: of another name where it computes in a way of its own.

    Args:
        op: of `levels`.
        program: as it was.
        levels: the same over unsigned levels.
    """
    if not has_profile(op, program):
        return op
    if op.op == "mean":
        found = dividing(op, levels)
        if found is None:
            return op
        multiplier, shift = (np.array([number], np.int32) for number in found)
        return replace(op, tensors={**op.tensors, "multiplier": multiplier, "shift": shift})
    if op.op == "softmax":
        return op if len(op.inputs) == 2 else replace(op, attrs={**op.attrs, "profile": "tflm"})
    offset = levels.values[op.output].zero_point - program.values[op.output].zero_point
    return replace(op, attrs={**op.attrs, "profile": "tflm", "offset": offset})


def combine(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """A sum or difference of two, in finer steps."""
    if len(op.inputs) != 2:
        return None
    first, second, y = (program.values[name] for name in (*op.inputs, op.output))
    twice = 2.0 * max(first.scale, second.scale)
    own = [ratio(*quantize_multiplier(x.scale / twice), x.zero_point) for x in (first, second)]
    fields = (
        ("requantize", unscaled(op, program)),
        ("first", own[0]),
        ("term", own[1]),
        ("last", ratio(*quantize_multiplier(twice / (2.0**LEFT_SHIFT * y.scale)), 0)),
        ("operation", OPERATIONS[op.op]),
        *row_maps(op, pins),
    )
    return [Draft(StepKind.TFLM_COMBINE, op.output, op.inputs[0], op.inputs[1], fields)]


def avg_pool(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Averages of levels, padding left out; other scales are for the reference to refuse."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    if (x.scale, x.zero_point) != (y.scale, y.zero_point):
        return None
    bounds, offset = unscaled(op, program), op.attrs["offset"]
    bounds.low, bounds.high = op.attrs["act_min"] - offset, op.attrs["act_max"] - offset
    bounds.zero_point = offset
    fields = (*geometry(op, op.attrs["kernel"]), ("requantize", bounds))
    return [Draft(StepKind.TFLM_AVG_POOL, op.output, op.inputs[0], fields=fields)]


def softmax(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """By one reciprocal a row; other scales are for the reference to refuse."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    if (y.scale, y.zero_point) != (1 / 256, 0) or op.attrs["axis"] != 0:
        return None
    tables = np.concatenate(exponential_tables(x.scale))
    fields = (("requantize", unscaled(op, program)), ("bias", pins(tables, ctypes.c_int32)))
    return [Draft(StepKind.TFLM_SOFTMAX, op.output, op.inputs[0], fields=fields)]


PROFILE_DRAFTS: dict[str, Callable[[Op, Program, Pins], list[Draft] | None]] = {
    **{"add": combine, "subtract": combine, "avg_pool2d": avg_pool, "softmax": softmax}
}
