"""Values over tokens, (…, C), as the images that the engine knows.

An image lies channels last in memory, which is just how an array (…, C) lies: its rows, the product of the
leading dimensions, are the height of an image (C, rows, 1). So a linear layer over tokens is a convolution of
1 × 1, and only the way in and out of the arena tells the two apart.

Two dimensions, and four or more, are always tokens. Three are an image, (C, H, W), or tokens, (A, B, C), as
those operators say that read or give them: linear layers have channels last, convolutions and pools first,
and what works value by value passes it on. Where two disagree, `arrange` moves levels from one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.moves import MOVES, as_move
from stages.integer.program import Op, Program, Value

BY_VALUE = frozenset({"add", "subtract", "maximum", "minimum", "multiply", "requantize", "table"})
"""Operators to which it is all the same where the channels lie, as long as they lie so in all values."""

TIED = BY_VALUE | {"channel_table", "concat", "slice", "pad", "take"}
"""Operators whose values lie alike, if nothing else says how."""

ROW_BY_ROW = frozenset({"linear", "group_linear", "layer_norm", "softmax", "rms_norm", "matmul"})
"""Operators that work on the channels of each row; a softmax along the last dimension."""

CHANNELS_FIRST = frozenset(
    {
        *("conv2d", "group_conv2d", "avg_pool2d", "max_pool2d", "upsample_nearest", "insert_zeros"),
        *("resample", "group_norm"),
    }
)

RowMap = NDArray[np.int32] | None
"""Which row of a value each row of the output reads; None for the same row, or the only one."""


def channels_last(program: Program) -> frozenset[str]:
    """Names of the values that are tokens."""
    three = {name for name, value in program.values.items() if len(value.shape) == 3}
    first = _reached(program, three, [op for op in program.ops if op.op in CHANNELS_FIRST])
    last = _reached(program, three, [op for op in program.ops if _row_by_row(op, program)]) - first
    found = last | {name for name, value in program.values.items() if len(value.shape) not in (0, 1, 3)}
    grown = True
    while grown:  # what is made of tokens by moving them, and nobody claims
        moved = [op for op in program.ops if op.op in MOVES and op.inputs[0] in found]
        new = _reached(program, three - first, moved) - first - found
        found, grown = found | new, bool(new)
    return frozenset(found)


def as_images(program: Program, tokens: frozenset[str]) -> Program:
    """The program with values over tokens in the shape of images; its operators stay as they are."""
    values = {name: _image(value) if name in tokens else value for name, value in program.values.items()}
    return replace(program, values=values)


def over_images(op: Op, program: Program, tokens: frozenset[str]) -> Op | None:
    """An operator as it is over the images of its values; None where it is none of theirs.

    Args:
        op: of `program`, as `arrange` gives it.
        program: as it was, with the values' own shapes.
        tokens: what `channels_last` found.
    """
    over = _as_it_is(op, program, tokens)
    return over if over is not None or op.op not in MOVES else as_move(op, program, tokens)


def _as_it_is(op: Op, program: Program, tokens: frozenset[str]) -> Op | None:
    """The same kind of operator over images, but for dimensions that it names."""
    names = (*op.inputs, op.output)
    x, y = program.values[op.inputs[0]], program.values[op.output]
    if op.op in MOVES:
        wide = any(program.values[name].wide for name in names)
        return None if wide else _copied(op, program, tokens)
    if op.op in ("mean", "amax", "amin"):
        return _reduction(op, x, y, tokens)
    if op.op in ("constant", "embedding"):
        return replace(op, attrs={**op.attrs, "tokens": op.output in tokens})
    touched = {name for name in names if name in tokens}
    if not touched:
        return op
    if len(touched) < len(set(names)):
        return None
    if op.op in BY_VALUE or op.op in ("softmax", "rms_norm"):
        maps = tuple(row_map(program.values[name], y) for name in op.inputs)
        axis = {"axis": 0} if "axis" in op.attrs else {}
        return replace(op, attrs={**op.attrs, **axis, "maps": maps})
    if op.op == "channel_table":
        return _channels(op, x)
    return op


def row_map(x: Value, y: Value) -> RowMap:
    """The rows of a value that broadcasts over tokens."""
    rows = np.arange(math.prod(x.shape[:-1]), dtype=np.int32).reshape(x.shape[:-1])
    if rows.size == 1 or x.shape[:-1] == y.shape[:-1] or len(x.shape) != len(y.shape):
        return None
    return np.broadcast_to(rows, y.shape[:-1]).reshape(-1)


def _channels(op: Op, x: Value) -> Op:
    """A table for each channel, or a map of tables for rows."""
    axis = op.attrs["axis"]
    if axis == len(x.shape) - 1:
        return replace(op, attrs={"axis": 0})
    index = np.indices(x.shape[:-1], np.int32, sparse=True)[axis]
    return replace(op, attrs={"axis": 1, "map": np.broadcast_to(index, x.shape[:-1]).reshape(-1)})


def _reduction(op: Op, x: Value, y: Value, tokens: frozenset[str]) -> Op | None:
    """Over all pixels of an image, or lists of rows of tokens, with the channels or without."""
    axes, last = op.attrs["axes"], len(x.shape) - 1
    if x.name not in tokens and last == 2:
        return op if op.op == "mean" and tuple(axes) == (1, 2) and y.name not in tokens else None
    if op.op == "mean" and tuple(axes) == tuple(range(last)) and last:
        return replace(op, attrs={**op.attrs, "axes": (1, 2)})
    leading = x.shape[:-1]
    reduced = [axis for axis in axes if axis < last]
    kept = [axis for axis in range(last) if axis not in reduced]
    rows = np.arange(math.prod(leading), dtype=np.int32).reshape(leading).transpose(*kept, *reduced)
    count = math.prod(leading[axis] for axis in reduced)
    return replace(
        op,
        op="reduce",
        attrs={**op.attrs, "of": op.op, "rows": rows.reshape(-1, count), "flatten": last in axes},
    )


def _copied(op: Op, program: Program, tokens: frozenset[str]) -> Op | None:
    """A move that the engine's COPY does: within images, or along rows or channels of tokens."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    touched = [name in tokens for name in (*op.inputs, op.output)]
    if op.op == "reshape":
        return op if _keeps_rows(x, y, tokens) or (not any(touched) and not _spreads(x, y)) else None
    if op.op == "take" and not any(touched) and repeats(op, x) > 1:
        return op
    if op.op in ("permute", "take"):
        return None
    if op.op == "slice" and op.attrs["steps"][-1 if x.name in tokens else 0] != 1:  # of channels
        return None
    if not any(touched):
        return op
    return _along_axes(op, x.shape) if all(touched) else None


def repeats(op: Op, x: Value) -> int:
    """How often a selection takes each channel of an image, one after the other; 0 where it is another."""
    if len(x.shape) != 3 or op.attrs["axis"] != 0 or len(op.attrs["indices"]) % x.shape[0]:
        return 0
    times = len(op.attrs["indices"]) // x.shape[0]
    return times if np.array_equal(op.attrs["indices"], np.repeat(np.arange(x.shape[0]), times)) else 0


def _spreads(x: Value, y: Value) -> bool:
    """Whether a reshape makes an image of something else."""
    return len(y.shape) == 3 and x.shape != y.shape


def _row_by_row(op: Op, program: Program) -> bool:
    last = len(program.values[op.output].shape) - 1
    return op.op in ROW_BY_ROW and op.attrs.get("axis", last) == last


def _reached(program: Program, among: set[str], ops: Sequence[Op]) -> set[str]:
    """Values that these operators read or give, and all that operators by value tie to them."""
    found = {name for op in ops for name in among.intersection((*op.inputs, op.output))}
    ties = [among.intersection((*op.inputs, op.output)) for op in program.ops if op.op in TIED]
    grown = True
    while grown:
        grown = False
        for tie in ties:
            if tie & found and not tie <= found:
                found |= tie
                grown = True
    return found


def _image(value: Value) -> Value:
    *leading, channels = value.shape
    return replace(value, shape=(channels, math.prod(leading), 1))


def _keeps_rows(x: Value, y: Value, tokens: frozenset[str]) -> bool:
    """Whether all that a reshape changes is how rows are counted; a vector is one row."""
    both = all(value.name in tokens or len(value.shape) == 1 for value in (x, y))
    return both and x.shape[-1] == y.shape[-1]


def _along_axes(op: Op, shape: tuple[int, ...]) -> Op | None:
    """What names dimensions: of (rows, C), or the channels of any tokens."""
    changed: dict[str, Any] = {}
    if op.op == "concat":
        axis = op.attrs["axis"]
        of_image = 0 if axis == len(shape) - 1 else 1 if len(shape) == 2 else None
        if of_image is None:
            return None
        changed = {"axis": of_image}
    elif len(shape) != 2:
        return None
    elif op.op == "pad":
        rows, channels = op.attrs["pads"]
        changed = {"pads": (channels, rows, (0, 0))}
    else:
        ends = {"starts": 0, "ends": 1, "steps": 1}
        changed = {name: (*_reversed(op.attrs[name]), of_column) for name, of_column in ends.items()}
    return replace(op, attrs={**op.attrs, **changed})


def _reversed(pair: Sequence[int]) -> tuple[int, int]:
    rows, channels = pair
    return channels, rows
