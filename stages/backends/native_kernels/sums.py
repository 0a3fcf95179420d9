"""The steps of sums, products and extremes: of two values, along dimensions, and of a value's neighbours."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.planner import Draft, Pins
from stages.backends.native_kernels.ratios import requantize, term
from stages.backends.native_kernels.structures import Operation, Requantization, StepKind
from stages.integer.program import Op, Program
from stages.integer.sums import check_sum

OPERATIONS = {
    **{"add": Operation.SUM, "subtract": Operation.DIFFERENCE, "mean": Operation.SUM},
    **{"maximum": Operation.LARGEST, "minimum": Operation.SMALLEST},
    **{"amax": Operation.LARGEST, "amin": Operation.SMALLEST},
}


def combine(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Make one step of two values, each rescaled; sums of more are the reference's."""
    if len(op.inputs) != 2:
        return None
    fields = (
        ("requantize", requantize(op, program, pins, index=0)),
        ("term", term(op, program, name=op.inputs[1], index=1)),
        ("operation", OPERATIONS[op.op]),
        *row_maps(op, pins),
    )
    return [Draft(StepKind.COMBINE, op.output, op.inputs[0], op.inputs[1], fields)]


def multiply(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """Products of levels."""
    fields = (("requantize", requantize(op, program, pins)), *row_maps(op, pins))
    return [Draft(StepKind.MULTIPLY, op.output, op.inputs[0], op.inputs[1], fields)]


def rescale(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """One value at another scale, by its ratio: where levels are more than a table has."""
    fields = (("requantize", requantize(op, program, pins)),)
    return [Draft(StepKind.RESCALE, op.output, op.inputs[0], fields=fields)]


def reduce(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """Sums or extremes over lists of rows (`tokens`), and over channels."""
    of = replace(op, op=op.attrs["of"])
    rows: NDArray[Any] = op.attrs["rows"]
    fields: tuple[tuple[str, Any], ...] = (
        ("operation", OPERATIONS[of.op]),
        ("map", pins(rows, ctypes.c_int32)),
        ("count", rows.shape[1]),
        ("flatten", int(op.attrs["flatten"])),
    )
    if of.op == "mean":
        fields = (*fields, ("requantize", requantize(of, program, pins)))
    return [Draft(StepKind.REDUCE, op.output, op.inputs[0], fields=fields)]


def resample(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """Weighted sums of rows, then of columns."""
    check_sum(op, program)
    fields = (
        ("requantize", requantize(op, program, pins)),
        ("map", pins(taps(op.tensors["rows"]), ctypes.c_int32)),
        ("residual_map", pins(taps(op.tensors["columns"]), ctypes.c_int32)),
    )
    return [Draft(StepKind.RESAMPLE, op.output, op.inputs[0], fields=fields)]


def taps(weights: NDArray[np.int32]) -> NDArray[np.int32]:
    """(n', n) as (first, count, place) for each of n', and behind them the weights, from each `place` on."""
    entries: list[int] = []
    values: list[int] = []
    for row in weights:
        used = np.flatnonzero(row)
        first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        entries += (first, end - first, 3 * len(weights) + len(values))
        values += row[first:end].tolist()
    return np.array(entries + values, np.int32)


def unscaled(op: Op, program: Program) -> Requantization:
    """Bounds and zero point alone, for what rescales in a way of its own."""
    zero_point = program.values[op.output].zero_point
    low, high = op.attrs["act_min"] - zero_point, op.attrs["act_max"] - zero_point
    return Requantization(low=low, high=high, zero_point=zero_point)


def row_maps(op: Op, pins: Pins) -> tuple[tuple[str, Any], ...]:
    """Rows of both values, where they are over tokens and repeat."""
    maps = zip(("map", "residual_map"), op.attrs.get("maps", ()), strict=False)
    return tuple((name, pins(rows, ctypes.c_int32)) for name, rows in maps if rows is not None)
