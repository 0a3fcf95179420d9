"""Operators on the elements of values, in TFLite: sums, products, extremes, requantization, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from stages.exporters.tflite_file.bounds import Bounds, finish
from stages.exporters.tflite_file.layout import TensorLayout
from stages.exporters.tflite_file.writer import TfliteWriter, no_form
from stages.integer.kernels.channel_table import first_entries
from stages.integer.program import Op, Value


def arithmetic(code: str, options: Any, writer: TfliteWriter, op: Op) -> None:
    """ADD, SUB and MUL of two values, which broadcast."""
    if len(op.inputs) != 2:
        raise no_form(op, f"{len(op.inputs)} inputs, and {code} has two", "sums of two values")
    inputs, layout = operands(writer, op)
    bounds = Bounds.of(op, writer.program)
    y = writer.declare(op.output, layout)
    finish(writer, op, code, inputs, y, options(fusedActivationFunction=bounds.fused), bounds)


def extreme(code: str, writer: TfliteWriter, op: Op) -> None:
    """MAXIMUM and MINIMUM, of inputs that are requantized to the output's scale first."""
    inputs, layout = operands(writer, op)
    inputs = [requantized(writer, op, name, at) for name, at in zip(op.inputs, inputs, strict=True)]
    y = writer.declare(op.output, layout)
    bounds = Bounds.of(op, writer.program, fuses=False)
    finish(writer, op, code, inputs, y, schema.MaximumMinimumOptionsT(), bounds)


def requantize(writer: TfliteWriter, op: Op) -> None:
    """QUANTIZE from levels to levels."""
    (name,) = op.inputs
    y = writer.declare(op.output, writer.layout(name))
    source = writer.value(name, writer.layout(name))
    bounds = Bounds.of(op, writer.program, fuses=False)
    finish(writer, op, "QUANTIZE", [source], y, schema.QuantizeOptionsT(), bounds)


def requantized(writer: TfliteWriter, op: Op, name: str, tensor: int) -> int:
    """An input of `op` in the output's scale, by QUANTIZE where it has another."""
    x, y = writer.program.values[name], writer.program.values[op.output]
    if (x.scale, x.zero_point, x.dtype) == (y.scale, y.zero_point, y.dtype):
        return tensor
    shape = writer.tensors[tensor].shape
    target = writer.tensor(f"{op.output}/{name}", shape, y.dtype.name, y)
    return writer.operator("QUANTIZE", [tensor], target, schema.QuantizeOptionsT())


def operands(writer: TfliteWriter, op: Op) -> tuple[list[int], TensorLayout]:
    """The inputs in one layout, and that of the result: the first's that is no constant; of one rank."""
    shapes = [writer.program.values[name].shape for name in op.inputs]
    y = writer.program.values[op.output].shape
    found = [
        name
        for name in op.inputs
        if name not in writer.constants and len(shapes[op.inputs.index(name)]) == len(y)
    ]
    layout = writer.layout(found[0]) if found else TensorLayout.plain(y)
    tensors = []
    for name, shape in zip(op.inputs, shapes, strict=True):
        aligned = (*[1] * (len(y) - len(shape)), *shape)
        if len(shape) == len(y):
            tensors.append(writer.value(name, TensorLayout(sizes=aligned, order=layout.order)))
            continue
        seen = TensorLayout(sizes=aligned, order=layout.order)
        index = writer.value(name, TensorLayout.plain(shape))
        index = writer.reshape(index, f"{op.output}/{name}", aligned)
        if not seen.in_order:
            index = writer.transpose(index, f"{op.output}/{name}/order", [0, *(a + 1 for a in layout.order)])
        tensors.append(writer.reshape(index, f"{op.output}/{name}", seen.shape))
    return tensors, TensorLayout(sizes=y, order=layout.order)


def table(writer: TfliteWriter, op: Op) -> None:
    """A GATHER from the 256 levels, at the input's levels counted from 0: any function of one value."""
    (name,), value = op.inputs, writer.program.values[op.output]
    layout = writer.layout(name)
    index = _counted(writer, op, writer.value(name, layout))
    _look_up(writer, op, index, value, layout)


def channel_table(writer: TfliteWriter, op: Op) -> None:
    """A GATHER from the tables of all channels in a row."""
    (name,), value = op.inputs, writer.program.values[op.output]
    layout = writer.layout(name)
    index = _counted(writer, op, writer.value(name, layout))
    first = np.broadcast_to(first_entries(op, writer.program), value.shape)
    axis = op.attrs["axis"]
    picked = first[tuple(slice(None) if i == axis else slice(0, 1) for i in range(first.ndim))]
    seen = TensorLayout(sizes=picked.shape, order=layout.order)
    offsets = writer.constant(f"{op.output}/first", seen.to_file(picked[None].astype(np.int32)))
    shape = writer.tensors[index].shape
    target = writer.tensor(f"{op.output}/entry", shape, "int32")
    index = writer.operator("ADD", [index, offsets], target, schema.AddOptionsT())
    _look_up(writer, op, index, value, layout)


def _counted(writer: TfliteWriter, op: Op, source: int) -> int:
    """Levels as int32 from 0 on."""
    shape = writer.tensors[source].shape
    index = writer.operator(
        "CAST",
        [source],
        writer.tensor(f"{op.output}/level", shape, "int32"),
        schema.CastOptionsT(inDataType=writer.tensors[source].type, outDataType=schema.TensorType.INT32),
    )
    if writer.program.values[op.inputs[0]].dtype == np.uint8:
        return index
    offset = writer.constant(f"{op.output}/offset", np.array([128], np.int32))
    target = writer.tensor(f"{op.output}/index", shape, "int32")
    return writer.operator("ADD", [index, offset], target, schema.AddOptionsT())


def _look_up(writer: TfliteWriter, op: Op, index: int, value: Value, layout: TensorLayout) -> None:
    levels = op.tensors["table"].astype(value.dtype).reshape(-1)
    entries = writer.constant(f"{op.output}/table", levels, np.array([value.scale]), zero=value.zero_point)
    y = writer.declare(op.output, layout)
    writer.operator("GATHER", [entries, index], y, schema.GatherOptionsT(axis=0))


ELEMENTS: Mapping[str, Callable[[TfliteWriter, Op], None]] = {
    "add": partial(arithmetic, "ADD", schema.AddOptionsT),
    "subtract": partial(arithmetic, "SUB", schema.SubOptionsT),
    "multiply": partial(arithmetic, "MUL", schema.MulOptionsT),
    "maximum": partial(extreme, "MAXIMUM"),
    "minimum": partial(extreme, "MINIMUM"),
    "requantize": requantize,
    "table": table,
    "channel_table": channel_table,
}
