"""Operators on the elements of tensors of a TFLite file, averages, softmax, and tables of one function."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from stages.importers.tflite_file import lookups
from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.reader import TfliteReader, activation, axes_of
from stages.importers.tflite_file.tables import TABLES
from stages.integer.program import Value
from stages.integer.ratios import rescaling


def sum_of_two(reader: TfliteReader, op: TfliteOperator) -> None:
    """ADD, SUB."""
    if lookups.is_place(reader, op):
        lookups.moved_places(reader, op)
        return
    inputs, y = _both(reader, op)
    attrs = {"headroom": 0, **activation(op.option(0, "b", 0), y)}
    ratio = [x.scale / y.scale for x in inputs]
    reader.append("add" if op.kind == "ADD" else "subtract", inputs, y, attrs, rescaling(ratio))


def product(reader: TfliteReader, op: TfliteOperator) -> None:
    """MUL."""
    (first, second), y = _both(reader, op)
    ratio = rescaling(first.scale * second.scale / y.scale)
    reader.append("multiply", [first, second], y, activation(op.option(0, "b", 0), y), ratio)


def extreme(reader: TfliteReader, op: TfliteOperator) -> None:
    """MAXIMUM, MINIMUM, of levels of one scale."""
    inputs, y = _both(reader, op)
    if any((x.scale, x.zero_point) != (y.scale, y.zero_point) for x in inputs):
        raise ValueError("inputs and output must share scale and zero point")
    bounds = {"act_min": y.quant_min, "act_max": y.quant_max}
    reader.append(op.kind.lower(), inputs, y, bounds, rescaling([1.0, 1.0]))


def _both(reader: TfliteReader, op: TfliteOperator) -> tuple[list[Value], Value]:
    """Both inputs, a constant one as a value, and the output."""
    y = reader.value(reader.tensor(op, 0, output=True))
    return [_operand(reader, op, place, len(y.shape)) for place in (0, 1)], y


def _operand(reader: TfliteReader, op: TfliteOperator, place: int, rank: int) -> Value:
    tensor = reader.tensor(op, place)
    if tensor.data is None:
        return _broadcast(reader, reader.read(op, place), rank)
    return reader.constant_value(tensor, rank)


def _broadcast(reader: TfliteReader, x: Value, rank: int) -> Value:
    """A value of fewer dimensions with ones before them, as the file's tensors broadcast."""
    missing = rank - len(x.shape)
    if missing <= 0 or reader.batch != 1:
        return x
    rows = reader.flattened(x, (*[1] * missing, *x.shape))
    return reader.channels_first(rows) if rank == 3 else rows


def reduction(reader: TfliteReader, op: TfliteOperator) -> None:
    """MEAN, REDUCE_MAX, REDUCE_MIN."""
    tensor, x = reader.tensor(op, 0), reader.read(op, 0)
    axes = tuple(sorted(set(axes_of(reader.constant(op, 1).ravel().tolist(), len(tensor.shape)))))
    y = reader.value(reader.tensor(op, 0, output=True))
    keep = bool(op.option(0, "?", False))
    attrs: dict[str, Any] = {"axes": axes, "keepdim": keep}
    left = [size for axis, size in enumerate(x.shape) if axis not in axes]
    # of an image without its rows or its columns alone, what is left is (C, W) here and (W, C) there
    swapped = len(x.shape) == 3 and not keep and len(axes) == 1 and axes != (0,)
    target = reader.new(f"{y.name}/reduced", replace(y, shape=tuple(left))) if swapped else y
    if op.kind == "MEAN":
        count = math.prod(x.shape[axis] for axis in axes)
        attrs |= {"act_min": y.quant_min, "act_max": y.quant_max}
        reader.append("mean", [x], target, attrs, rescaling(x.scale / (y.scale * count)))
    else:
        reader.append("amax" if op.kind == "REDUCE_MAX" else "amin", [x], target, attrs)
    if swapped:
        reader.append("permute", [target], y, {"axes": (1, 0)})


def softmax(reader: TfliteReader, op: TfliteOperator) -> None:
    """SOFTMAX over the last dimension, channels of an image."""
    if op.option(0, "f", 0.0) != 1.0:
        raise ValueError(f"beta={op.option(0, 'f', 0.0)}: must be 1")
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    attrs = {
        "axis": 0 if len(x.shape) == 3 else len(x.shape) - 1,
        "act_min": y.quant_min,
        "act_max": y.quant_max,
    }
    tensors = {
        "exponentials": np.rint(2.0**26 * np.exp(-x.scale * np.arange(256))).astype(np.int32),
        "inverse_scale": np.array([round(2**14 / y.scale)], np.int64),
    }
    reader.append("softmax", [x], y, attrs, tensors)


def bounded(reader: TfliteReader, op: TfliteOperator) -> None:
    """RELU, RELU6, RELU_N1_TO_1 and QUANTIZE as operators of their own.

    RELU rescales by a quotient in float32, RELU6 clamps levels (micro/kernels/activations_common.cc).
    """
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    fused = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}.get(op.kind, 0)
    if fused in (2, 3) and (x.scale, x.zero_point, x.dtype) != (y.scale, y.zero_point, y.dtype):
        raise ValueError("input and output must share scale and zero point")
    ratio = x.scale / y.scale
    if fused:
        ratio = float(np.float32(x.scale) / np.float32(y.scale))
    reader.append("requantize", [x], y, activation(fused, y), rescaling(ratio))


def table(reader: TfliteReader, op: TfliteOperator) -> None:
    """A function of one value, as TFLite Micro computes it, for all 256 levels."""
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    levels = np.arange(x.quant_min, x.quant_max + 1, dtype=np.int64)
    results = np.clip(TABLES[op.kind](levels, x, y, op), y.quant_min, y.quant_max)
    reader.append("table", [x], y, None, {"table": results.astype(y.dtype)})
