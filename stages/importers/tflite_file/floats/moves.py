"""Operators of a float file that move, join and select."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.floats.elements import operand
from stages.importers.tflite_file.floats.reader import FloatOperand, FloatReader, FloatValue
from stages.importers.tflite_file.reader import axes_of


def reshape(reader: FloatReader, op: TfliteOperator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS, by the shape of the output."""
    tensor = reader.tensor(op, 0, output=True)
    reader.values[tensor.index] = _in_shape(reader, reader.as_it_is(op, 0), reader.sample(tensor))


def _in_shape(reader: FloatReader, x: FloatValue, shape: tuple[int, ...]) -> FloatValue:
    """The value in another shape of the file's; an image that is flattened keeps its own order."""
    if len(x.shape) == 3 and len(shape) == 1:
        flat = reader.reshaped(x, shape)
        if x.shape[0] > 1 and x.shape[1] * x.shape[2] > 1:
            reader.order[flat.name] = (x.shape[0], x.shape[1], x.shape[2])
        return flat
    if x.name in reader.order and shape == reader.order[x.name]:
        return reader.reshaped(x, shape)
    if x.shape == shape and x.name in reader.order:
        return x
    x = reader.in_file_order(x)
    if x.shape == shape:
        return x
    if len(x.shape) == 3:
        x = reader.channels_last(x)
    if len(shape) != 3:
        return reader.reshaped(x, shape)
    return reader.channels_first(reader.reshaped(x, (shape[1], shape[2], shape[0])))


def transpose(reader: FloatReader, op: TfliteOperator) -> None:
    """TRANSPOSE of all but the batch."""
    x, order = reader.read(op, 0), [int(axis) for axis in reader.constant(op, 1).ravel()]
    if sorted(order) != list(range(len(x.shape) + 1)) or order[0] != 0:
        raise ValueError(f"perm {order}: must leave the batch first")
    if len(order) == 4:  # in (N, C, H, W)
        ours = (0, 3, 1, 2)
        order = [ours.index(order[ours[axis]]) for axis in range(4)]
    reader.emit("Transpose", [x], reader.result(op), perm=order)


def pad(reader: FloatReader, op: TfliteOperator) -> None:
    """PAD, PADV2, and MIRROR_PAD that leaves the edge out."""
    x, pads = reader.read(op, 0), reader.constant(op, 1)
    if pads.shape != (len(x.shape) + 1, 2) or pads.min() < 0 or pads[0].any():
        raise ValueError(f"paddings {pads.tolist()}: must be a pair a dimension, and none for the batch")
    mirrored = op.kind == "MIRROR_PAD"
    if mirrored and op.option(0, "b", 0) != 0:
        raise ValueError("repeats the edge (SYMMETRIC): must be REFLECT")
    ours = pads[[0, 3, 1, 2]] if len(pads) == 4 else pads
    level = float(reader.constant(op, 2).ravel()[0]) if op.given(2) else 0.0
    amounts, filling = ours.T.ravel().astype(np.int64), np.array(level, np.float32)
    inputs: list[FloatOperand] = [x, amounts] if mirrored else [x, amounts, filling]
    reader.emit("Pad", inputs, reader.result(op), mode="reflect" if mirrored else "constant")


def concatenation(reader: FloatReader, op: TfliteOperator) -> None:
    """CONCATENATION along a dimension that is not the batch's."""
    tensor = reader.tensor(op, 0, output=True)
    rank = len(reader.sample(tensor))
    inputs = [operand(reader, op, place, rank) for place in range(len(op.inputs))]
    (axis,) = axes_of([int(op.option(0, "i", 0))], rank + 1)
    reader.fused(op, 1, "Concat", inputs, axis=axis + 1)


def split(reader: FloatReader, op: TfliteOperator) -> None:
    """SPLIT in equal parts, SPLIT_V in parts of given sizes."""
    data, where = (1, 0) if op.kind == "SPLIT" else (0, 2)
    x = reader.read(op, data)
    (axis,) = axes_of(reader.constant(op, where).ravel().tolist(), len(x.shape) + 1)
    parts = [reader.result(op, place) for place in range(len(op.outputs))]
    sizes = np.array([part.shape[axis] for part in parts], np.int64)
    reader.emit("Split", [x, sizes], parts, axis=axis + 1)


def gather(reader: FloatReader, op: TfliteOperator) -> None:
    """GATHER of constant places along a dimension; of rows of a constant, an embedding, by tokens."""
    places, source = (1, 0) if op.kind == "GATHER" else (0, 1)
    if reader.is_constant(reader.tensor(op, source)):
        if op.option(0, "i", 0) or op.option(1, "i", 0):
            raise ValueError("entries of a constant are taken along its first dimension")
        entries, tokens = reader.constant(op, source), reader.read(op, places)
        reader.emit("Gather", [entries, tokens], reader.result(op), axis=0)
        return
    x, indices = reader.read(op, source), reader.constant(op, places)
    if indices.ndim > 1 or indices.dtype.kind != "i" or op.option(1, "i", 0):
        raise ValueError(f"indices {indices.dtype} {indices.shape}: must be a list of integers")
    (axis,) = axes_of([int(op.option(0, "i", 0))], len(x.shape) + 1)
    shape = [max(indices.size, 1) if i == axis else size for i, size in enumerate(x.shape)]
    tensor = reader.tensor(op, 0, output=True)
    inputs: list[FloatOperand] = [x, indices.reshape(-1).astype(np.int64)]
    picked = reader.emit("Gather", inputs, reader.new(tensor.name, shape), axis=axis + 1)
    reader.values[tensor.index] = _in_shape(reader, picked, reader.sample(tensor))


def resize(reader: FloatReader, op: TfliteOperator) -> None:
    """RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR of an image to the output's size."""
    x, y = reader.read(op, 0), reader.result(op)
    bilinear = op.kind == "RESIZE_BILINEAR"
    corners, half = (op.option(slot + 2 * bilinear, "?", False) for slot in (0, 1))
    if len(x.shape) != 3 or len(y.shape) != 3:
        raise ValueError(f"from {x.shape} to {y.shape}: must be of images")
    place = "align_corners" if corners else "half_pixel" if half else "asymmetric"
    if bilinear and place == "asymmetric" and x.shape[1:] == y.shape[1:]:
        place = "half_pixel"
    if bilinear and place == "asymmetric":
        raise ValueError("has neither half pixels nor aligned corners. Remedy: half_pixel_centers=True")
    sizes = np.array([1, *y.shape], np.int64)
    reader.emit(
        "Resize",
        [x, None, None, sizes],
        y,
        mode="linear" if bilinear else "nearest",
        coordinate_transformation_mode=place,
        nearest_mode="floor" if place == "asymmetric" else "round_prefer_ceil",
    )


def blocks(reader: FloatReader, op: TfliteOperator) -> None:
    """DEPTH_TO_SPACE, SPACE_TO_DEPTH: channels of a block row by row."""
    kind = "DepthToSpace" if op.kind == "DEPTH_TO_SPACE" else "SpaceToDepth"
    size = int(op.option(0, "i", 0))
    if size < 1:
        raise ValueError(f"block_size={size}: must be positive")
    reader.emit(kind, [reader.read(op, 0)], reader.result(op), blocksize=size)


def strided_slice(reader: FloatReader, op: TfliteOperator) -> None:
    """STRIDED_SLICE without new dimensions."""
    begins, ends, steps = (reader.constant(op, place).ravel().tolist() for place in (1, 2, 3))
    begin_mask, end_mask, ellipsis, new, dropped = (int(op.option(slot, "i", 0)) for slot in range(5))
    if ellipsis or new or dropped & 1:
        raise ValueError("ellipses, new dimensions and a dropped batch are not read")
    if not len(begins) == len(ends) == len(steps):
        raise ValueError(f"begin {begins}, end {ends}, strides {steps}: must be as many")
    bounds: list[slice] = []
    for i, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        if dropped >> i & 1:
            bounds.append(slice(begin, begin + 1 or None, 1))
        else:
            first, last = begin_mask >> i & 1, end_mask >> i & 1
            bounds.append(slice(None if first else begin, None if last else end, step))
    _slice(reader, op, bounds)


def slices(reader: FloatReader, op: TfliteOperator) -> None:
    """SLICE: begins and sizes, −1 for all that is left."""
    begins, sizes = (reader.constant(op, place).ravel().tolist() for place in (1, 2))
    bounds = [slice(b, None if n == -1 else b + n, 1) for b, n in zip(begins, sizes, strict=True)]
    _slice(reader, op, bounds)


def _slice(reader: FloatReader, op: TfliteOperator, bounds: Sequence[slice]) -> None:
    x, tensor = reader.read(op, 0), reader.tensor(op, 0, output=True)
    shape = (reader.batch, *x.shape)
    sizes = (shape[0], shape[2], shape[3], shape[1]) if len(shape) == 4 else shape
    if len(bounds) != len(sizes) or any(bound.step == 0 for bound in bounds):
        raise ValueError(f"{len(bounds)} bounds for {len(sizes)} dimensions, or a step of 0")
    rows = [range(size)[bound] for size, bound in zip(sizes, bounds, strict=True)]
    if rows[0] != range(reader.batch):
        raise ValueError("takes samples out of the batch")
    ours = [rows[3], rows[1], rows[2]] if len(rows) == 4 else rows[1:]
    # a range that counts down ends at −1, which a slice would count from the end
    stops = [row.stop if row.stop >= 0 else -(2**31) for row in ours]
    numbers = [[row.start for row in ours], stops, range(1, len(rows)), [row.step for row in ours]]
    inputs = [np.array(list(n), np.int64) for n in numbers]
    picked = reader.new(tensor.name, [len(row) for row in ours])
    reader.emit("Slice", [x, *inputs], picked)
    reader.values[tensor.index] = _in_shape(reader, picked, reader.sample(tensor))


def tile(reader: FloatReader, op: TfliteOperator) -> None:
    """TILE of all but the batch."""
    x, repeats = reader.read(op, 0), reader.constant(op, 1).ravel()
    if len(repeats) != len(x.shape) + 1 or repeats[0] != 1 or repeats.min() < 1:
        raise ValueError(f"multiples {repeats.tolist()}: must be a number a dimension, 1 for the batch")
    ours = repeats[[0, 3, 1, 2]] if len(repeats) == 4 else repeats
    reader.emit("Tile", [x, ours.astype(np.int64)], reader.result(op))
