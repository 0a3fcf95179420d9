"""Values over tokens, (…, C), as the images that the engine knows.

An image lies channels last in memory, which is just how an array (…, C) lies: its rows, the product of the
leading dimensions, are the height of an image (C, rows, 1). So a linear layer over tokens is a convolution of
1 × 1, and only the way in and out of the arena tells the two apart.

Two dimensions, and four or more, are always tokens. Three are an image, (C, H, W), or tokens, (A, B, C), as
those operators say that read or give them: linear layers have channels last, convolutions and pools first,
and what works value by value passes it on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from stages.backends.native_kernels.moves import as_move
from stages.integer.program import Op, Program, Value

BY_VALUE = frozenset({"add", "multiply", "requantize", "table"})
"""Operators to which it is all the same where the channels lie, as long as they lie so in all values."""

ROW_BY_ROW = frozenset({"linear", "layer_norm", "softmax", "matmul"})
"""Operators that work on the channels of each row; a softmax along the last dimension."""

MOVES = frozenset({"permute", "reshape", "slice"})

CHANNELS_FIRST = frozenset(
    {"conv2d", "avg_pool2d", "max_pool2d", "upsample_nearest", "insert_zeros", "resample"}
)


def channels_last(program: Program) -> frozenset[str]:
    """Names of the values that are tokens."""
    three = {name for name, value in program.values.items() if len(value.shape) == 3}
    first = _reached(program, three, [op for op in program.ops if op.op in CHANNELS_FIRST])
    last = _reached(program, three, [op for op in program.ops if _row_by_row(op, program)])
    others = {name for name, value in program.values.items() if len(value.shape) not in (0, 1, 3)}
    found = others | (last - first)
    for op in program.ops:  # what is made of tokens by moving them, and nobody claims
        if op.op in MOVES and op.inputs[0] in found and op.output in three - first:
            found.add(op.output)
    return frozenset(found)


def as_images(program: Program, tokens: frozenset[str]) -> Program:
    """The program with values over tokens in the shape of images; its operators stay as they are."""
    values = {name: _image(value) if name in tokens else value for name, value in program.values.items()}
    return replace(program, values=values)


def over_images(op: Op, program: Program, tokens: frozenset[str]) -> Op | None:
    """An operator as it is over the images of its values; None where it is none of theirs.

    Args:
        op: of `program`.
        program: as it was, with the values' own shapes.
        tokens: what `channels_last` found.
    """
    over = _as_it_is(op, program, tokens)
    return over if over is not None or op.op not in MOVES else as_move(op, program, tokens)


def _as_it_is(op: Op, program: Program, tokens: frozenset[str]) -> Op | None:
    """The same kind of operator over images, but for dimensions that it names."""
    names = (*op.inputs, op.output)
    touched = {name for name in names if name in tokens}
    if not touched:
        many_rows = op.op in ROW_BY_ROW and len(program.values[op.output].shape) != 1
        return None if many_rows or op.op == "permute" or _spreads(op, program) else op
    x, y = program.values[op.inputs[0]], program.values[op.output]
    if op.op == "reshape":
        return op if _keeps_rows(x, y, tokens) else None
    if op.op == "mean":
        lies_last = x.name in tokens and (y.name in tokens or len(y.shape) == 1)
        return _mean(op, len(x.shape)) if lies_last else None
    if len(touched) < len(set(names)):
        return None
    if op.op in BY_VALUE:
        return op if all(_broadcasts(program.values[name], y) for name in op.inputs) else None
    if op.op in ROW_BY_ROW:
        return _row(op, program)
    return _along_axes(op, x.shape)


def _spreads(op: Op, program: Program) -> bool:
    """Whether a reshape makes an image of something else."""
    x, y = (program.values[name].shape for name in (op.inputs[0], op.output))
    return op.op == "reshape" and len(y) == 3 and x != y


def _row_by_row(op: Op, program: Program) -> bool:
    last = len(program.values[op.output].shape) - 1
    return op.op in ROW_BY_ROW and op.attrs.get("axis", last) == last


def _row(op: Op, program: Program) -> Op | None:
    """With channels in front. What a softmax keeps must be rows of its own, or one for all."""
    y = program.values[op.output]
    if op.op == "matmul":
        return op if _one_matrix_or_as_many(program, op) else None
    fits = all(_broadcasts(program.values[name], y) for name in op.inputs)
    if not fits or not _row_by_row(op, program):
        return None
    return replace(op, attrs={**op.attrs, "axis": 0}) if op.op == "softmax" else op


def _reached(program: Program, among: set[str], ops: Sequence[Op]) -> set[str]:
    """Values that these operators read or give, and all that operators by value tie to them."""
    found = {name for op in ops for name in among.intersection((*op.inputs, op.output))}
    ties = [among.intersection((*op.inputs, op.output)) for op in program.ops if op.op in BY_VALUE]
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


def _broadcasts(x: Value, y: Value) -> bool:
    """Whether rows are those of the output or a single one: others would repeat within the height."""
    return math.prod(x.shape[:-1]) in (1, math.prod(y.shape[:-1]))


def _one_matrix_or_as_many(program: Program, op: Op) -> bool:
    """Whether a product's second value is one matrix, or as many as the output, which the first always is."""
    a, b, y = (math.prod(program.values[name].shape[:-2]) for name in (*op.inputs, op.output))
    return a == y and b in (1, y)


def _mean(op: Op, rank: int) -> Op | None:
    """Over all rows."""
    if tuple(op.attrs["axes"]) != tuple(range(rank - 1)):
        return None
    return replace(op, attrs={**op.attrs, "axes": (1, 2)})


def _along_axes(op: Op, shape: tuple[int, ...]) -> Op | None:
    """What names dimensions: of (rows, C), or the channels of any tokens."""
    if op.op == "concat":
        axis = op.attrs["axis"]
        of_image = 0 if axis == len(shape) - 1 else 1 if len(shape) == 2 else None
        return None if of_image is None else replace(op, attrs={**op.attrs, "axis": of_image})
    if op.op == "pad" and len(shape) == 2:
        rows, channels = op.attrs["pads"]
        return replace(op, attrs={**op.attrs, "pads": (channels, rows, (0, 0))})
    if op.op == "slice" and len(shape) == 2:
        ends = {"starts": 0, "ends": 1, "steps": 1}
        moved = {name: (*_reversed(op.attrs[name]), of_column) for name, of_column in ends.items()}
        return replace(op, attrs={**op.attrs, **moved})
    return None


def _reversed(pair: Sequence[int]) -> tuple[int, int]:
    rows, channels = pair
    return channels, rows
