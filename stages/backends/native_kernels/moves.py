"""Moves as copies along strided dimensions, between images and tokens alike.

A value's level lies at ``Σ index·step`` of its image, whatever its layout: the step is a number of levels, of
pixels or of rows, whose sizes the engine knows. A reshape splits both sides' dimensions into common ones; a
selection lists indices along one; a padding fills its target first; what is concatenated is moved one value
after the other, each through its table.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from stages.backends.native_kernels.planner import Draft, Pins
from stages.backends.native_kernels.structures import StepKind
from stages.backends.native_kernels.tables import table_of_input
from stages.integer.program import Op, Program, Value

LEVEL, PIXEL, ROW = range(3)
MOST_DIMENSIONS = 8
"""What source/move.h has room for."""

MOVES = frozenset({"permute", "reshape", "slice", "take", "pad", "concat"})


@dataclass(frozen=True)
class StridedAxis:
    """A dimension in an image: its size, and how far its levels lie apart, ``step`` times ``unit``.

    A `listed` one has its levels where a list of indices says, as numbers of steps.
    """

    size: int
    unit: int
    step: int
    listed: bool = False


AxisPair = tuple[StridedAxis, StridedAxis]
"""One dimension in the source and in the target."""


@dataclass(frozen=True)
class Strided:
    """One step of a move: what it copies, and where in source and target it begins, in each unit."""

    source: str
    dimensions: tuple[tuple[int, ...], ...]
    start: tuple[int, ...] = (0, 0, 0)
    target: tuple[int, ...] = (0, 0, 0)
    indices: tuple[int, ...] = ()
    listed: int = -1
    """The dimension that `indices` are of."""


def as_move(op: Op, program: Program, tokens: frozenset[str]) -> Op | None:
    """The operator as a ``move``, with what the engine's steps need as attributes; None where it is no move.

    Args:
        op: any operator.
        program: has the values' own shapes.
        tokens: values with channels last.
    """
    x, y = (axes_of(program.values[name], name in tokens) for name in (op.inputs[0], op.output))
    if op.op == "concat":
        moves = _concat(op, program, tokens)
    elif op.op == "permute":
        moves = [_strided(op.inputs[0], [(x[a], to) for a, to in zip(op.attrs["axes"], y, strict=True)])]
    elif op.op == "slice":
        moves = [_slice(op, x, y)]
    elif op.op == "take":
        moves = [_take(op, x, y)]
    elif op.op == "pad":
        target = [0, 0, 0]
        for axis, (before, after) in zip(y, op.attrs["pads"], strict=True):
            if min(before, after) < 0:
                return None
            target[axis.unit] += before * axis.step
        inner = [replace(to, size=a.size) for a, to in zip(x, y, strict=True)]
        moves = [_strided(op.inputs[0], list(zip(x, inner, strict=True)), target=target)]
    elif op.op == "reshape":
        common = _common(x, y)
        moves = [None if common is None else _strided(op.inputs[0], common)]
    else:
        return None
    if any(move is None or len(move.dimensions) > MOST_DIMENSIONS for move in moves):
        return None
    attrs = {
        "moves": moves,
        "fill": op.op == "pad",
        "relabels": op.op == "reshape" and _by_rows(op, program, tokens),
    }
    return replace(op, op="move", attrs={**op.attrs, **attrs})


def move(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """The steps of what `as_move` made."""
    drafts = [Draft(StepKind.FILL, op.output)] if op.attrs["fill"] else []
    for index, one in enumerate(op.attrs["moves"]):
        channel, column, row = one.start
        fields = (
            ("bias", pins(np.array(one.dimensions), ctypes.c_int32)),
            ("passes", len(one.dimensions)),
            ("source_channel", channel),
            ("pad_h", -row),
            ("pad_w", -column),
            *zip(("target_channel", "target_column", "target_row"), one.target, strict=True),
            ("count", one.listed),
        )
        if one.indices:
            fields = (*fields, ("map", pins(np.array(one.indices), ctypes.c_int32)))
        if len(op.inputs) > 1:
            fields = (*fields, ("table", pins(table_of_input(op, program, index), ctypes.c_uint8)))
        relabels = op.attrs["relabels"]
        drafts.append(Draft(StepKind.MOVE, op.output, one.source, fields=fields, relabels=relabels))
    return drafts


def _by_rows(op: Op, program: Program, tokens: frozenset[str]) -> bool:
    """Whether levels lie in the order of dimensions on both sides."""
    return all(name in tokens or len(program.values[name].shape) == 1 for name in (*op.inputs, op.output))


def axes_of(value: Value, token: bool) -> list[StridedAxis]:
    """Its dimensions, in order."""
    shape = value.shape
    if token or len(shape) == 1:
        leading = shape[:-1]
        rows = [StridedAxis(size, ROW, math.prod(leading[i + 1 :])) for i, size in enumerate(leading)]
        return [*rows, StridedAxis(shape[-1], LEVEL, 1)]
    return [StridedAxis(size, unit, 1) for size, unit in zip(shape, (LEVEL, ROW, PIXEL), strict=True)]


def _strided(
    source: str,
    pairs: Sequence[AxisPair],
    *,
    start: Sequence[int] = (0, 0, 0),
    target: Sequence[int] = (0, 0, 0),
    indices: Sequence[int] = (),
) -> Strided:
    """The target's outermost dimension first, and as few as can be."""
    joined = _joined(sorted(pairs, key=lambda pair: (-pair[1].unit, -pair[1].step)))
    listed = [i for i, (a, _) in enumerate(joined) if a.listed]
    return Strided(
        source=source,
        dimensions=tuple((b.size, a.unit, a.step, b.unit, b.step) for a, b in joined),
        start=tuple(start),
        target=tuple(target),
        indices=tuple(indices) if listed else (),
        listed=listed[0] if listed else -1,
    )


def _slice(op: Op, x: Sequence[StridedAxis], y: Sequence[StridedAxis]) -> Strided | None:
    start, pairs = [0, 0, 0], []
    for axis, to, first, step in zip(x, y, op.attrs["starts"], op.attrs["steps"], strict=True):
        if step < 1:
            return None
        start[axis.unit] += range(axis.size)[first:].start * axis.step
        pairs.append((StridedAxis(to.size, axis.unit, axis.step * step), to))
    return _strided(op.inputs[0], pairs, start=start)


def _take(op: Op, x: Sequence[StridedAxis], y: Sequence[StridedAxis]) -> Strided:
    """Evenly spaced indices are a step of their own; others a list."""
    indices, axis = [int(i) for i in op.attrs["indices"]], op.attrs["axis"]
    apart = {b - a for a, b in pairwise(indices)} or {1}
    pairs, start, chosen = list(zip(x, y, strict=True)), [0, 0, 0], x[axis]
    if len(apart) == 1 and min(apart) >= 0:
        start[chosen.unit] = indices[0] * chosen.step
        pairs[axis] = (StridedAxis(len(indices), chosen.unit, chosen.step * apart.pop()), y[axis])
    else:
        pairs[axis] = (StridedAxis(len(indices), chosen.unit, chosen.step, listed=True), y[axis])
    return _strided(op.inputs[0], pairs, start=start, indices=indices)


def _concat(op: Op, program: Program, tokens: frozenset[str]) -> list[Strided | None]:
    y, axis = axes_of(program.values[op.output], op.output in tokens), op.attrs["axis"]
    moves: list[Strided | None] = []
    target = [0, 0, 0]
    for name in op.inputs:
        x = axes_of(program.values[name], name in tokens)
        inner = [replace(to, size=a.size) for a, to in zip(x, y, strict=True)]
        moves.append(_strided(name, list(zip(x, inner, strict=True)), target=target))
        target[y[axis].unit] += x[axis].size * y[axis].step
    return moves


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
    return joined or [(StridedAxis(1, LEVEL, 1), StridedAxis(1, LEVEL, 1))]


def _follows(outer: StridedAxis, inner: StridedAxis) -> bool:
    plain = not outer.listed and not inner.listed
    return plain and outer.unit == inner.unit and outer.step == inner.step * inner.size
