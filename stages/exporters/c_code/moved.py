"""How operators that select, move or look up levels become calls."""

from __future__ import annotations

import math

import numpy as np

from stages.exporters.c_code.computed import combine
from stages.exporters.c_code.literals import Sizes, row_major
from stages.exporters.c_code.writer import CWriter
from stages.integer.program import Integers, Op, Value
from stages.integer.requantizer import all_levels, finisher, rescaler


def reshape(w: CWriter, op: Op) -> None:
    """Nothing: the result is the input's memory."""


def constant(w: CWriter, op: Op) -> None:
    """Nothing: the result is a constant array, which `stages.exporters.c_code.model` writes."""


def table(w: CWriter, op: Op) -> None:
    """A function of one value."""
    (x,), y = w.values_of(op)
    if x.counts:
        _rows(w, op, op.tensors["table"].reshape(-1, 1))
    else:
        _table(w, op.tensors["table"], 1, x, y)


def channel_table(w: CWriter, op: Op) -> None:
    """A function for each index along a dimension."""
    (x,), y = w.values_of(op)
    _table(w, op.tensors["table"], math.prod(x.shape[op.attrs["axis"] + 1 :]), x, y)


def embedding(w: CWriter, op: Op) -> None:
    """A row for each token."""
    _rows(w, op, op.tensors["table"])


def requantize(w: CWriter, op: Op) -> None:
    """A table over 256 levels, made by the reference's own arithmetic; a sum of one where levels are wide."""
    (x,), y = w.values_of(op)
    if x.wide or y.wide:
        combine(w, op)
    else:
        _table(w, _rescaled(w, op, x, 0), 1, x, y)


def concat(w: CWriter, op: Op) -> None:
    """Each input at its place, looked up where its levels change."""
    inputs, y = w.values_of(op)
    axis, done = op.attrs["axis"], 0
    for index, x in enumerate(inputs):
        start = done * row_major(y.shape)[axis]
        done += x.shape[axis]
        move = _move(w, x, x.shape, row_major(x.shape), row_major(y.shape), f"_{index}")
        entries = _rescaled(w, op, x, index)
        levels = np.arange(x.quant_min, x.quant_max + 1)
        if (entries[levels + 128] == levels).all():
            w.call("move", move, w.at(x), w.at(y, start))
        else:
            w.call("place", move, w.data(f"table_{index}", entries), w.at(x), w.at(y, start))


def permute(w: CWriter, op: Op) -> None:
    """Dimensions in another order."""
    (x,), y = w.values_of(op)
    strides = [row_major(x.shape)[axis] for axis in op.attrs["axes"]]
    w.call("move", _move(w, x, y.shape, strides, row_major(y.shape)), w.at(x), w.at(y))


def slices(w: CWriter, op: Op) -> None:
    """A part of each dimension."""
    (x,), y = w.values_of(op)
    strides = row_major(x.shape)
    triples = zip(x.shape, op.attrs["starts"], op.attrs["ends"], op.attrs["steps"], strict=True)
    picked = [range(size)[slice(start, end, step)] for size, start, end, step in triples]
    first = sum(r.start * s for r, s in zip(picked, strides, strict=True)) if math.prod(y.shape) else 0
    steps = [r.step * s for r, s in zip(picked, strides, strict=True)]
    w.call("move", _move(w, x, y.shape, steps, row_major(y.shape)), w.at(x, first), w.at(y))


def pad(w: CWriter, op: Op) -> None:
    """Real zeros around the input."""
    (x,), y = w.values_of(op)
    strides = row_major(y.shape)
    first = sum(before * s for (before, _), s in zip(op.attrs["pads"], strides, strict=True))
    _spread(w, x, y, strides, first if math.prod(x.shape) else 0)


def insert_zeros(w: CWriter, op: Op) -> None:
    """Real zeros between rows and columns."""
    (x,), y = w.values_of(op)
    strides = row_major(y.shape)
    factors = (1, *op.attrs["factor"])
    _spread(w, x, y, [f * s for f, s in zip(factors, strides, strict=True)], 0)


def upsample_nearest(w: CWriter, op: Op) -> None:
    """Each row and column several times."""
    (x,), y = w.values_of(op)
    (channels, height, width), (rows, columns) = x.shape, op.attrs["factor"]
    sizes = (channels, height, rows, width, columns)
    source = (height * width, width, 0, 1, 0)
    w.call("move", _move(w, x, sizes, source, row_major(sizes)), w.at(x), w.at(y))


def take(w: CWriter, op: Op) -> None:
    """Entries by their indices along a dimension."""
    (x,), y = w.values_of(op)
    axis = op.attrs["axis"]
    structure = w.structure(
        "take",
        outer=math.prod(x.shape[:axis]),
        axis=x.shape[axis],
        inner=math.prod(x.shape[axis + 1 :]),
        count=len(op.attrs["indices"]),
        wide=int(x.wide),
        indices=w.data("indices", np.array(op.attrs["indices"], np.int32)),
    )
    w.call("take", structure, w.at(x), w.at(y))


def copy(w: CWriter, x: Value, target: str) -> None:
    """A value's levels to where the caller wants them."""
    strides = row_major(x.shape)
    w.call("move", _move(w, x, x.shape, strides, strides), w.at(x), target)


def _spread(w: CWriter, x: Value, y: Value, strides: Sizes, first: int) -> None:
    """The input at some strides within real zeros."""
    w.call("fill", x.zero_point, math.prod(y.shape), int(x.wide), w.at(y))
    w.call("move", _move(w, x, x.shape, row_major(x.shape), strides), w.at(x), w.at(y, first))


def _move(w: CWriter, x: Value, sizes: Sizes, source: Sizes, target: Sizes, suffix: str = "") -> str:
    walk, strides = w.walk(sizes, source, target)
    w.use("move.h")
    size = math.prod(sizes)
    fields = {"size": size, **walk, "from": strides[0], "to": strides[1], "wide": int(x.wide)}
    return w.structure("move", suffix, **fields)


def _table(w: CWriter, entries: Integers, inner: int, x: Value, y: Value) -> None:
    name = w.data("table", entries)
    w.call("table", name, entries.size // 256, inner, math.prod(x.shape), w.at(x), w.at(y))


def _rows(w: CWriter, op: Op, entries: Integers) -> None:
    (x,), y = w.values_of(op)
    name, size = w.data("rows", entries), math.prod(x.shape)
    w.call("rows", name, entries.shape[1], size, w.at(x), int(x.wide), x.zero_point, w.at(y))


def _rescaled(w: CWriter, op: Op, x: Value, index: int) -> Integers:
    """The output's level for each of the input's 256, from −128 on."""
    levels = finisher(op, w.program)(rescaler(op, w.program, index=index)(all_levels(x)))
    return np.roll(levels, 128)
