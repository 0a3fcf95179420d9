"""Permutations, slices and reshapes as copies along strided dimensions, between images and tokens alike.

A value's level lies at ``Σ index·step`` of its image, whatever its layout: the step is a number of bytes, of
pixels or of rows, whose sizes the engine knows. A reshape splits both sides' dimensions into common ones.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stages.backends.native_kernels.planner import Draft, Pins
from stages.backends.native_kernels.structures import StepKind
from stages.integer.program import Op, Program, Value

BYTE, PIXEL, ROW = range(3)
MOST_DIMENSIONS = 8
"""What source/move.h has room for."""


@dataclass(frozen=True)
class StridedAxis:
    """A dimension in an image: its size, and how far its levels lie apart, ``step`` times ``unit``."""

    size: int
    unit: int
    step: int


AxisPair = tuple[StridedAxis, StridedAxis]
"""One dimension in the source and in the target."""


def as_move(op: Op, program: Program, tokens: frozenset[str]) -> Op | None:
    """The operator as a ``move``, with what the engine's step needs as attributes; None where it is no move.

    Args:
        op: any operator.
        program: has the values' own shapes.
        tokens: values with channels last.
    """
    x, y = (axes_of(program.values[name], name in tokens) for name in (op.inputs[0], op.output))
    start = [0, 0, 0]
    if op.op == "permute":
        pairs = [(x[axis], to) for axis, to in zip(op.attrs["axes"], y, strict=True)]
    elif op.op == "slice":
        pairs = []
        for axis, to, first, step in zip(x, y, op.attrs["starts"], op.attrs["steps"], strict=True):
            if step < 1:
                return None
            start[axis.unit] += range(axis.size)[first:].start * axis.step
            pairs.append((StridedAxis(to.size, axis.unit, axis.step * step), to))
    elif op.op == "reshape":
        common = _common(x, y)
        if common is None:
            return None
        pairs = common
    else:
        return None
    pairs = _joined(sorted(pairs, key=lambda pair: (-pair[1].unit, -pair[1].step)))
    if len(pairs) > MOST_DIMENSIONS:
        return None
    numbers = [(b.size, a.unit, a.step, b.unit, b.step) for a, b in pairs]
    return replace(op, op="move", attrs={"dimensions": numbers, "start": start})


def move(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """The step of what `as_move` made."""
    channel, column, row = op.attrs["start"]
    fields = (
        ("bias", pins(np.array(op.attrs["dimensions"]), ctypes.c_int32)),
        ("passes", len(op.attrs["dimensions"])),
        ("source_channel", channel),
        ("pad_h", -row),
        ("pad_w", -column),
    )
    return [Draft(StepKind.MOVE, op.output, op.inputs[0], fields=fields)]


def axes_of(value: Value, token: bool) -> list[StridedAxis]:
    """Its dimensions, in order."""
    shape = value.shape
    if token or len(shape) == 1:
        leading = shape[:-1]
        rows = [StridedAxis(size, ROW, math.prod(leading[i + 1 :])) for i, size in enumerate(leading)]
        return [*rows, StridedAxis(shape[-1], BYTE, 1)]
    return [StridedAxis(size, unit, 1) for size, unit in zip(shape, (BYTE, ROW, PIXEL), strict=True)]


def _common(x: Sequence[StridedAxis], y: Sequence[StridedAxis]) -> list[AxisPair] | None:
    """Dimensions into which both sides split, the last first; None where sizes do not divide."""
    from_right, to_right = ([axis for axis in side if axis.size > 1] for side in (x, y))
    pairs: list[AxisPair] = []
    while from_right and to_right:
        a, b = from_right.pop(), to_right.pop()
        size = min(a.size, b.size)
        if a.size % size or b.size % size:
            return None
        pairs.append((replace(a, size=size), replace(b, size=size)))
        for side, axis in ((from_right, a), (to_right, b)):
            if axis.size > size:
                side.append(StridedAxis(axis.size // size, axis.unit, axis.step * size))
    return pairs


def _joined(pairs: Sequence[AxisPair]) -> list[AxisPair]:
    """Without dimensions of one level, and with those that follow on each other on both sides as one."""
    joined: list[AxisPair] = []
    for inner in pairs:
        if inner[1].size == 1:
            continue
        if joined and all(map(_follows, joined[-1], inner)):
            source, target = (
                replace(b, size=a.size * b.size) for a, b in zip(joined.pop(), inner, strict=True)
            )
            inner = source, target
        joined.append(inner)
    return joined or [(StridedAxis(1, BYTE, 1), StridedAxis(1, BYTE, 1))]


def _follows(outer: StridedAxis, inner: StridedAxis) -> bool:
    return outer.unit == inner.unit and outer.step == inner.step * inner.size
