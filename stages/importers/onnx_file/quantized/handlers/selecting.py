"""Slices, parts, constant indices, tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.quantized.finishing import offset
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.handlers.shapes import moving, reshaped
from stages.importers.onnx_file.quantized.operands import (
    axis_of,
    constant,
    numbers,
)
from stages.importers.onnx_file.quantized.states import (
    Index,
    Input,
    Pending,
    Scale,
    State,
    StoredLevels,
    ValueDraft,
    Weight,
)
from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array


def _slice(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    starts, ends = numbers(own, node, "starts", 1), numbers(own, node, "ends", 2)
    if starts is None or ends is None or len(starts) != len(ends):
        raise ValueError(f"starts {starts} and ends {ends}: must be as many")
    axes = numbers(own, node, "axes", 3) or list(range(len(starts)))
    steps = numbers(own, node, "steps", 4) or [1] * len(starts)
    bounds = [(0, n, 1) for n in x.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if reading.axis_of(axis, len(x.shape) + 1) == 0:
            if (start, step) == (0, 1) and end >= own.batch:
                continue
            raise ValueError("takes some of the samples of a batch")
        if step == 0:
            raise ValueError("steps: must not be 0")
        place = axis_of(axis, x)
        chosen = range(x.shape[place])[start:end:step]
        if step < 0:
            indices = tuple(chosen)
            shape = [len(indices) if i == place else n for i, n in enumerate(x.shape)]
            x = own.moved(node, x, "take", shape, axis=place, indices=indices)
            bounds[place] = (0, len(indices), 1)
        else:
            bounds[place] = (chosen.start, max(chosen.stop, chosen.start), chosen.step)
    return _cut(own, node, x, bounds)


def _cut(
    own: Quantized, node: OnnxNode, x: ValueDraft, bounds: list[tuple[int, int, int]], output: int = 0
) -> ValueDraft:
    if bounds == [(0, n, 1) for n in x.shape]:
        return x
    starts, ends, steps = (tuple(column) for column in zip(*bounds, strict=True))
    shape = [len(range(n)[slice(*b)]) for n, b in zip(x.shape, bounds, strict=True)]
    return own.moved(node, x, "slice", shape, output, starts=starts, ends=ends, steps=steps)


def _split(own: Quantized, node: OnnxNode, x: ValueDraft) -> list[ValueDraft]:
    axis = axis_of(node.attrs.get("axis", 0), x)
    sizes = numbers(own, node, "split", 1)
    if sizes is None:
        each = -(-x.shape[axis] // len(node.outputs))
        sizes = [each] * (len(node.outputs) - 1)
        sizes.append(x.shape[axis] - sum(sizes))
    if sum(sizes) != x.shape[axis] or min(sizes) < 0 or len(sizes) != len(node.outputs):
        raise ValueError(f"split={sizes} of {x.shape[axis]} entries into {len(node.outputs)}")
    parts, first = [], 0
    for output, size in enumerate(sizes):
        bounds = [(0, n, 1) for n in x.shape]
        bounds[axis] = (first, first + size, 1)
        parts.append(_cut(own, node, x, bounds, output))
        first += size
    return parts


def _gather(own: Quantized, node: OnnxNode) -> State:
    state, places = own.state(node, 0), own.state(node, 1)
    if isinstance(state, np.ndarray) and isinstance(places, Index | StoredLevels):
        return _look_up(own, node, state, places)
    if isinstance(state, Weight) and isinstance(places, StoredLevels | Input | Index):
        raise ValueError("looks up a quantized table by numbers that are no levels")
    result: State = moving(_select)(own, node)
    return result


def _select(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    indices, axis = own.array(node, 1, "indices"), axis_of(node.attrs.get("axis", 0), x)
    if indices is None:
        raise ValueError("has no indices")
    size = x.shape[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise ValueError(f"indices span {indices.min()}..{indices.max()}: must be within {size} entries")
    chosen = tuple(int(i) % size for i in indices.reshape(-1))
    shape = (*x.shape[:axis], len(chosen), *x.shape[axis + 1 :])
    final = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    taken = own.moved(node, x, "take", shape, axis=axis, indices=chosen)
    return reshaped(own, node, taken, final)


def _look_up(own: Quantized, node: OnnxNode, table: Array, places: Index | StoredLevels) -> State:
    """Levels of a table by levels, a channel's part each, or of an embedding by numbers of tokens."""
    x = places.value
    if table.dtype not in (np.int8, np.uint8):
        raise ValueError(f"looks up {table.dtype}: levels of 8 bits are read")
    if x.dtype.itemsize > 1:
        value = own.draft(node.outputs[0], (*x.shape, *table.shape[1:]), table.dtype, Scale())

        def embed(pending: Pending, values: Any, y: Any) -> Any:
            levels = table.astype(np.int16) - offset(value, y.quant_min)
            kind = "table" if table.ndim == 1 else "embedding"
            return {}, {"table" if kind else "": levels.astype(y.dtype)}

        op = "table" if table.ndim == 1 else "embedding"
        return StoredLevels(own.emit(Pending(op, (x,), value.shape, embed, source=str(node)), value))
    first = places.first if isinstance(places, Index) else None
    channels = 1 if first is None else first.size
    if table.shape != (256 * channels,) or x.dtype != np.uint8:
        raise ValueError(f"a table of {list(table.shape)} for {channels} channels: must have 256 levels each")
    axis = None
    if first is not None:
        wide = [i - first.ndim + len(x.shape) for i, n in enumerate(first.shape) if n > 1] or [
            len(x.shape) - first.ndim
        ]
        axis = wide[0]
        expected = 256 * np.arange(channels)
        if len(wide) > 1 or axis < 0 or x.shape[axis] != channels or (first.reshape(-1) != expected).any():
            raise ValueError("the parts of its table are in no order that is read")
    value = own.draft(node.outputs[0], x.shape, table.dtype, Scale())

    def build(pending: Pending, values: Any, y: Any) -> Any:
        levels = (table.astype(np.int16) - offset(value, y.quant_min)).astype(y.dtype)
        return {}, {"table": levels if axis is None else levels.reshape(channels, 256)}

    attrs = {} if axis is None else {"axis": axis}
    op = "table" if axis is None else "channel_table"
    return StoredLevels(own.emit(Pending(op, (x,), x.shape, build, attrs, source=str(node)), value))


def _expand(own: Quantized, node: OnnxNode) -> State:
    state, sizes = own.state(node, 0), numbers(own, node, "shape", 1)
    if not sizes:
        raise ValueError("has no shape")
    if isinstance(state, np.ndarray) and state.dtype in (np.int8, np.uint8) and sizes[0] == own.batch:
        whole = np.broadcast_to(state, (1, *sizes[1:]))
        return StoredLevels(
            constant(own, node.outputs[0], np.ascontiguousarray(whole[0]), Scale(), str(node))
        )
    if isinstance(state, Weight | np.ndarray):
        return state  # what reads it broadcasts
    result: State = moving(_repeat)(own, node)
    return result


def _repeat(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    sizes = (numbers(own, node, "shape", 1) or [])[1:]
    if len(sizes) != len(x.shape):
        raise ValueError(f"of {list(x.shape)} to {sizes}: must have as many dimensions")
    for axis, size in enumerate(sizes):
        if x.shape[axis] == 1 and size > 1:
            shape = [size if i == axis else n for i, n in enumerate(x.shape)]
            x = own.moved(node, x, "take", shape, axis=axis, indices=(0,) * size)
    return x


HANDLERS: Mapping[str, Handler] = {
    "Slice": moving(_slice),
    "Split": moving(_split),
    "Gather": _gather,
    "Expand": _expand,
}
