"""Operators that move, join, reduce and normalize along dimensions, as TFLite operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from stages.exporters.tflite_file.bounds import Bounds, finish
from stages.exporters.tflite_file.elements import requantized
from stages.exporters.tflite_file.layout import IMAGE, TensorLayout
from stages.exporters.tflite_file.writer import TfliteWriter, no_form
from stages.integer.program import Op


def reshape(writer: TfliteWriter, op: Op) -> None:
    """RESHAPE, of elements that stay where they lie as far as the shapes allow it."""
    (name,), y = op.inputs, writer.program.values[op.output]
    if name in writer.constants:
        writer.constants[op.output] = writer.constants[name].reshape(y.shape)
        return
    at = writer.stored[name]
    layout = TensorLayout.plain(y.shape) if at.layout.in_order else at.layout.merge(y.shape)
    if layout is None and len(y.shape) == 1:
        layout = TensorLayout(sizes=at.layout.sizes, order=at.layout.order, flat=True)
    source = at.tensor
    if layout is None:
        layout = TensorLayout.plain(y.shape)
        source = writer.value(name, TensorLayout.plain(writer.program.values[name].shape))
    writer.reshape_into(source, writer.declare(op.output, layout))


def permute(writer: TfliteWriter, op: Op) -> None:
    """The same tensor by another name: its dimensions are counted otherwise."""
    (name,), axes = op.inputs, op.attrs["axes"]
    if name in writer.constants:
        writer.constants[op.output] = writer.constants[name].transpose(axes)
        return
    layout = writer.layout(name)
    writer.same(op.output, writer.value(name, layout), layout.permute(axes))


def constant(writer: TfliteWriter, op: Op) -> None:
    """Levels that are stored in whatever layout they are read in."""
    writer.constants[op.output] = op.tensors["levels"]


def pad(writer: TfliteWriter, op: Op) -> None:
    """PAD with real zeros, which TFLite takes from the zero point."""
    (name,), layout = op.inputs, writer.layout(op.inputs[0])
    pads = np.array([(0, 0), *(op.attrs["pads"][axis] for axis in layout.order)], np.int32)
    source = writer.value(name, layout)
    y = writer.declare(op.output, _resized(writer, op, layout))
    writer.operator("PAD", [source, writer.constant(f"{op.output}/pads", pads)], y, schema.PadOptionsT())


def slice_(writer: TfliteWriter, op: Op) -> None:
    """STRIDED_SLICE; the batch whole."""
    (name,), layout = op.inputs, writer.layout(op.inputs[0])
    shape = writer.program.values[name].shape
    bounds = zip(op.attrs["starts"], op.attrs["ends"], op.attrs["steps"], strict=True)
    triples = [slice(*triple).indices(size) for triple, size in zip(bounds, shape, strict=True)]
    rows = np.array([(0, writer.batch, 1), *(triples[axis] for axis in layout.order)], np.int32).T
    source = writer.value(name, layout)
    names = [
        writer.constant(f"{op.output}/{role}", np.ascontiguousarray(row))
        for role, row in zip(("starts", "ends", "steps"), rows, strict=True)
    ]
    y = writer.declare(op.output, _resized(writer, op, layout))
    options = schema.StridedSliceOptionsT(beginMask=1, endMask=1)
    writer.operator("STRIDED_SLICE", [source, *names], y, options)


def take(writer: TfliteWriter, op: Op) -> None:
    """GATHER with constant indices."""
    (name,), layout = op.inputs, writer.layout(op.inputs[0])
    indices = writer.constant(f"{op.output}/indices", np.array(op.attrs["indices"], np.int32))
    source = writer.value(name, layout)
    y = writer.declare(op.output, _resized(writer, op, layout))
    options = schema.GatherOptionsT(axis=layout.axis(op.attrs["axis"]))
    writer.operator("GATHER", [source, indices], y, options)


def concat(writer: TfliteWriter, op: Op) -> None:
    """CONCATENATION, of inputs that are requantized to the output's scale first."""
    y = writer.program.values[op.output]
    layout = next(
        (writer.layout(n) for n in op.inputs if n not in writer.constants), TensorLayout.plain(y.shape)
    )
    inputs = []
    for name in op.inputs:
        own = TensorLayout(sizes=writer.program.values[name].shape, order=layout.order)
        inputs.append(requantized(writer, op, name, writer.value(name, own)))
    bounds = Bounds.of(op, writer.program, fuses=False)
    target = writer.declare(op.output, _resized(writer, op, layout))
    options = schema.ConcatenationOptionsT(axis=layout.axis(op.attrs["axis"]))
    finish(writer, op, "CONCATENATION", inputs, target, options, bounds)


def reduction(code: str, writer: TfliteWriter, op: Op) -> None:
    """MEAN, REDUCE_MAX, REDUCE_MIN."""
    (name,), layout = op.inputs, writer.layout(op.inputs[0])
    axes, keepdim = op.attrs["axes"], bool(op.attrs["keepdim"])
    numbers = np.array(sorted(layout.axis(axis) for axis in axes), np.int32)
    source = writer.value(name, layout)
    y = writer.declare(op.output, layout.reduce(axes, keepdim))
    inputs = [source, writer.constant(f"{op.output}/axes", numbers)]
    bounds = Bounds.of(op, writer.program, fuses=False)
    finish(writer, op, code, inputs, y, schema.ReducerOptionsT(keepDims=keepdim), bounds)


def mean(writer: TfliteWriter, op: Op) -> None:
    """MEAN; a sum, or what else the ratio holds, is none."""
    x, y = (writer.program.values[name] for name in (op.inputs[0], op.output))
    count = np.prod([x.shape[axis] for axis in op.attrs["axes"]])
    factor = float(op.tensors["ratio"][0]) * y.scale / x.scale * count
    if abs(factor - 1) > 1e-4:
        raise no_form(op, f"is {factor:.6g} times a mean", "a mean in place of a sum")
    reduction("MEAN", writer, op)


def softmax(writer: TfliteWriter, op: Op) -> None:
    """SOFTMAX over the tensor's last dimension."""
    if len(op.inputs) > 1:
        raise no_form(op, "leaves entries out by a mask", "a softmax over all entries")
    y = writer.program.values[op.output]
    lowest = int(np.iinfo(y.dtype).min)
    if (np.float32(y.scale), y.zero_point) != (np.float32(1 / 256), lowest):
        raise no_form(
            op,
            f"scale {y.scale}, zero point {y.zero_point}: TFLite's are 1/256 and {lowest}",
            "convert.arithmetic=tflm",
        )
    (name,), layout = op.inputs, writer.layout(op.inputs[0])
    if layout.order[-1] != op.attrs["axis"]:
        layout = layout.last(op.attrs["axis"])
    source = writer.value(name, layout)
    bounds = Bounds.of(op, writer.program, fuses=False)
    target = writer.declare(op.output, layout)
    finish(writer, op, "SOFTMAX", [source], target, schema.SoftmaxOptionsT(beta=1.0), bounds)


def upsample_nearest(writer: TfliteWriter, op: Op) -> None:
    """RESIZE_NEAREST_NEIGHBOR from corner to corner of pixels."""
    x, y = (writer.program.values[name] for name in (op.inputs[0], op.output))
    source = writer.value(x.name, TensorLayout(sizes=x.shape, order=IMAGE))
    size = writer.constant(f"{op.output}/size", np.array(y.shape[1:], np.int32))
    target = writer.declare(op.output, TensorLayout(sizes=y.shape, order=IMAGE))
    options = schema.ResizeNearestNeighborOptionsT(alignCorners=False, halfPixelCenters=False)
    writer.operator("RESIZE_NEAREST_NEIGHBOR", [source, size], target, options)


def insert_zeros(writer: TfliteWriter, op: Op) -> None:
    """Rows, then columns: PAD behind each in a view of four dimensions; what is behind the last is cut."""
    x, y = (writer.program.values[name] for name in (op.inputs[0], op.output))
    (channels, height, width), (rows, columns) = x.shape, op.attrs["factor"]
    image, count = writer.value(x.name, TensorLayout(sizes=x.shape, order=IMAGE)), writer.batch
    if rows > 1:
        image = _spread(writer, f"{op.output}/rows", image, (count, height, 1, width * channels), rows)
    if columns > 1:
        seen = (count, height * rows * width, 1, channels)
        image = _spread(writer, f"{op.output}/columns", image, seen, columns)
    whole = writer.reshape_to(image, f"{op.output}/whole", (count, height * rows, width * columns, channels))
    target = writer.declare(op.output, TensorLayout(sizes=y.shape, order=IMAGE))
    _cut(writer, op, whole, target)


def _spread(writer: TfliteWriter, name: str, source: int, shape: tuple[int, ...], factor: int) -> int:
    """The tensor in `shape`, with zeros along the third dimension until that has size `factor`."""
    seen = writer.reshape_to(source, f"{name}/apart", shape)
    pads = writer.constant(f"{name}/pads", np.array([(0, 0), (0, 0), (0, factor - 1), (0, 0)], np.int32))
    padded = writer.like(seen, name, (*shape[:2], factor, shape[3]))
    return writer.operator("PAD", [seen, pads], padded, schema.PadOptionsT())


def _cut(writer: TfliteWriter, op: Op, source: int, target: int) -> None:
    """STRIDED_SLICE from the beginning to the target's shape."""
    ends = np.array(writer.tensors[target].shape, np.int32)
    rows = {"starts": np.zeros_like(ends), "ends": ends, "steps": np.ones_like(ends)}
    names = [writer.constant(f"{op.output}/{role}", row) for role, row in rows.items()]
    writer.operator("STRIDED_SLICE", [source, *names], target, schema.StridedSliceOptionsT())


def matmul(writer: TfliteWriter, op: Op) -> None:
    """BATCH_MATMUL; a permutation of a factor's last two dimensions is its ``adj``."""
    x, y = (writer.program.values[name] for name in op.inputs)
    out = writer.program.values[op.output]
    factor = float(op.tensors["ratio"][0]) * out.scale / (x.scale * y.scale)
    if abs(factor - 1) > 1e-4:
        raise no_form(op, f"is {factor:.6g} times a product", "a factor as a multiplication of its own")
    tensors, adjoint = [], []
    for value in (x, y):
        rank = len(value.shape)
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        layout = writer.layout(value.name)
        is_swapped = layout.order == swapped
        layout = layout if is_swapped else TensorLayout.plain(value.shape)
        tensors.append(writer.value(value.name, layout))
        adjoint.append(is_swapped)
    options = schema.BatchMatMulOptionsT(adjX=adjoint[0], adjY=adjoint[1])
    bounds = Bounds.of(op, writer.program, fuses=False)
    target = writer.declare(op.output, TensorLayout.plain(out.shape))
    finish(writer, op, "BATCH_MATMUL", tensors, target, options, bounds)


def _resized(writer: TfliteWriter, op: Op, layout: TensorLayout) -> TensorLayout:
    """The layout with the output's sizes."""
    return layout.resize(dict(enumerate(writer.program.values[op.output].shape)))


MOVES: Mapping[str, Callable[[TfliteWriter, Op], None]] = {
    "reshape": reshape,
    "permute": permute,
    "constant": constant,
    "pad": pad,
    "slice": slice_,
    "take": take,
    "concat": concat,
    "mean": mean,
    "amax": partial(reduction, "REDUCE_MAX"),
    "amin": partial(reduction, "REDUCE_MIN"),
    "softmax": softmax,
    "upsample_nearest": upsample_nearest,
    "insert_zeros": insert_zeros,
    "matmul": matmul,
}
