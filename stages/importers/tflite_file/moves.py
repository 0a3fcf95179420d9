"""Operators of a TFLite file that move levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.importers.tflite_file import lookups
from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.reader import TfliteReader, activation, axes_of
from stages.integer.program import Value
from stages.integer.ratios import rescaling

_OURS = {1: 1, 2: 2, 3: 0}
"""By dimension of (N, H, W, C): the sample's in (C, H, W)."""


def reshape(reader: TfliteReader, op: TfliteOperator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS, by the shape of the output."""
    x, tensor = reader.as_it_is(op, 0), reader.tensor(op, 0, output=True)
    y = reader.value(tensor)
    del reader.values[y.name]  # the last step below gives it
    made = _reshaped(reader, x, y)
    if made.name == x.name:  # the very same shape
        made = reader.moved("reshape", x, x.shape, {"shape": x.shape})
    last = reader.ops.pop()
    order = reader.order.pop(made.name, None)
    del reader.values[made.name]
    reader.values[y.name] = y
    reader.append(last.op, [reader.values[name] for name in last.inputs], y, last.attrs)
    if order is not None:
        reader.order[y.name] = order


def _reshaped(reader: TfliteReader, x: Value, y: Value) -> Value:
    if len(x.shape) == 3 and len(y.shape) == 1:
        flat = reader.flattened(x, y.shape)
        if x.shape[0] > 1 and x.shape[1] * x.shape[2] > 1:
            reader.order[flat.name] = (x.shape[0], x.shape[1], x.shape[2])
        return flat
    if x.name in reader.order and (y.shape == reader.order[x.name]):
        return reader.flattened(x, y.shape)
    x = reader.in_file_order(x)
    if len(x.shape) == 3:
        x = reader.channels_last(x)
    if len(y.shape) != 3:
        return reader.flattened(x, y.shape)
    return reader.channels_first(reader.flattened(x, (y.shape[1], y.shape[2], y.shape[0])))


def transpose(reader: TfliteReader, op: TfliteOperator) -> None:
    """TRANSPOSE."""
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    order = [int(axis) for axis in reader.constant(op, 1).ravel()]
    rank = len(order)
    if sorted(order) != list(range(rank)) or order[0] != 0 or rank != len(x.shape) + 1:
        raise ValueError(f"perm {order}: must leave the batch first")
    ours = (
        {own: tflite for tflite, own in _OURS.items()} if rank == 4 else {i: i + 1 for i in range(rank - 1)}
    )
    back = {tflite: own for own, tflite in ours.items()}
    axes = tuple(back[order[ours[axis]]] for axis in range(rank - 1))
    reader.append("permute", [x], y, {"axes": axes})


def pad(reader: TfliteReader, op: TfliteOperator) -> None:
    """PAD, and PADV2, whose level may be another than the zero point."""
    x, pads = reader.read(op, 0), reader.constant(op, 1)
    level = int(reader.constant(op, 2).ravel()[0]) if op.given(2) else x.zero_point
    if not x.quant_min <= level <= x.quant_max:
        raise ValueError(f"pads with {level}: must be within {x.quant_min}..{x.quant_max}")
    if pads.shape != (len(x.shape) + 1, 2) or pads.min() < 0 or pads[0].any():
        raise ValueError(f"paddings {pads.tolist()}: must be a pair a dimension, and none for the batch")
    around = tuple(_in_our_order([(int(before), int(after)) for before, after in pads]))
    tensor = reader.tensor(op, 0, output=True)
    if op.kind == "PADV2":  # what reads it may have it as its own padding
        shape = reader.sample(tensor)
        if shape != tuple(size + sum(pair) for size, pair in zip(x.shape, around, strict=True)):
            raise ValueError(f"a sample of {x.shape} with {around} around it is not {shape}")
        reader.filled[tensor.index] = (x, around, level)
        return
    reader.append("pad", [x], reader.value(tensor), {"pads": around})


def gather(reader: TfliteReader, op: TfliteOperator) -> None:
    """GATHER of a list of constant places along one dimension; from a table, at places that were computed."""
    if lookups.is_place(reader, op):
        lookups.look_up(reader, op)
        return
    tensor, indices = reader.tensor(op, 0), reader.constant(op, 1)
    if indices.ndim != 1 or indices.dtype.kind != "i" or op.option(1, "i", 0):
        raise ValueError(f"indices {indices.dtype} {indices.shape}: must be a list of integers")
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    (axis,) = axes_of([int(op.option(0, "i", 0))], len(tensor.shape))
    reader.append("take", [x], y, {"axis": axis, "indices": tuple(indices.tolist())})


def upsample_nearest(reader: TfliteReader, op: TfliteOperator) -> None:
    """RESIZE_NEAREST_NEIGHBOR by whole factors; half pixels make no difference there."""
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    if len(x.shape) != 3 or 0 in x.shape or op.option(0, "?", False):
        raise ValueError("must be of an image, and without align_corners")
    factor = tuple(out // size for out, size in zip(y.shape[1:], x.shape[1:], strict=False))
    if len(factor) != 2 or min(factor) < 1:
        raise ValueError(f"from {x.shape} to {y.shape}: must be by whole factors")
    reader.append("upsample_nearest", [x], y, {"factor": factor})


def concatenation(reader: TfliteReader, op: TfliteOperator) -> None:
    """CONCATENATION of levels of one scale."""
    inputs = [reader.read(op, place) for place in range(len(op.inputs))]
    tensor = reader.tensor(op, 0, output=True)
    y = reader.value(tensor)
    if any((x.scale, x.zero_point, x.dtype) != (y.scale, y.zero_point, y.dtype) for x in inputs):
        raise ValueError("inputs and output must share scale and zero point")
    (axis,) = axes_of([int(op.option(0, "i", 0))], len(tensor.shape))
    attrs = {"axis": axis, **activation(op.option(1, "b", 0), y)}
    reader.append("concat", inputs, y, attrs, rescaling([1.0] * len(inputs)))


def strided_slice(reader: TfliteReader, op: TfliteOperator) -> None:
    """STRIDED_SLICE without new or dropped dimensions."""
    x = reader.read(op, 0)
    begins, ends, steps = (reader.constant(op, place).ravel().tolist() for place in (1, 2, 3))
    begin_mask, end_mask, *others = (int(op.option(slot, "i", 0)) for slot in range(5))
    if any(others):
        raise ValueError("ellipses, new and dropped dimensions have no form here")
    _slice(
        reader,
        op,
        x,
        [0 if begin_mask >> i & 1 else n for i, n in enumerate(begins)],
        [None if end_mask >> i & 1 else n for i, n in enumerate(ends)],
        steps,
    )


def slices(reader: TfliteReader, op: TfliteOperator) -> None:
    """SLICE: begins and sizes, −1 for all that is left."""
    x = reader.read(op, 0)
    begins, sizes = (reader.constant(op, place).ravel().tolist() for place in (1, 2))
    ends = [None if size == -1 else begin + size for begin, size in zip(begins, sizes, strict=True)]
    _slice(reader, op, x, begins, ends, [1] * len(begins))


def _slice(
    reader: TfliteReader,
    op: TfliteOperator,
    x: Value,
    begins: Sequence[int],
    ends: Sequence[int | None],
    steps: Sequence[int],
) -> None:
    rank = len(x.shape) + 1
    if not len(begins) == len(ends) == len(steps) == rank or min(steps) < 1:
        raise ValueError(
            f"begin {begins}, end {ends}, strides {steps}: must be {rank} numbers, steps positive"
        )
    if (begins[0], steps[0]) != (0, 1) or ends[0] not in (None, reader.batch):
        raise ValueError("takes samples out of the batch")
    shape = (reader.batch, *x.shape)
    sizes = (shape[0], shape[2], shape[3], shape[1]) if rank == 4 else shape
    rows = [range(size)[slice(*bound)] for size, *bound in zip(sizes, begins, ends, steps, strict=True)]
    ours = _in_our_order(rows)
    attrs = {
        "starts": tuple(row.start for row in ours),
        "ends": tuple(row.stop for row in ours),
        "steps": tuple(row.step for row in ours),
    }
    reader.append("slice", [x], reader.value(reader.tensor(op, 0, output=True)), attrs)


def _in_our_order(of_dimensions: Sequence[np.generic | tuple[int, int] | range]) -> list:  # type: ignore[type-arg]
    """What a file says of each dimension, batch first, for those of a sample here."""
    _, *rest = of_dimensions
    return [rest[2], rest[0], rest[1]] if len(rest) == 3 else rest
