"""Operators on the elements of tensors of a TFLite file, averages, softmax, and tables of one function."""

from __future__ import annotations

import math

import numpy as np

from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.reader import TfliteReader, activation, axes_of, ratio_tensors
from stages.importers.tflite_file.tables import TABLES
from stages.integer.program import Value


def sum_of_two(reader: TfliteReader, op: TfliteOperator) -> None:
    """ADD, SUB."""
    inputs, y = _both(reader, op)
    attrs = {"headroom": 0, **activation(op.option(0, "b", 0), y)}
    ratio = [x.scale / y.scale for x in inputs]
    reader.append("add" if op.kind == "ADD" else "subtract", inputs, y, attrs, ratio_tensors(ratio))


def product(reader: TfliteReader, op: TfliteOperator) -> None:
    """MUL."""
    (first, second), y = _both(reader, op)
    ratio = ratio_tensors(first.scale * second.scale / y.scale)
    reader.append("multiply", [first, second], y, activation(op.option(0, "b", 0), y), ratio)


def extreme(reader: TfliteReader, op: TfliteOperator) -> None:
    """MAXIMUM, MINIMUM, of levels of one scale."""
    inputs, y = _both(reader, op)
    if any((x.scale, x.zero_point) != (y.scale, y.zero_point) for x in inputs):
        raise ValueError("inputs and output must share scale and zero point")
    bounds = {"act_min": y.quant_min, "act_max": y.quant_max}
    reader.append(op.kind.lower(), inputs, y, bounds, ratio_tensors([1.0, 1.0]))


def _both(reader: TfliteReader, op: TfliteOperator) -> tuple[list[Value], Value]:
    """Both inputs, a constant one as a value, and the output."""
    y = reader.value(reader.tensor(op, 0, output=True))
    return [_operand(reader, op, place, len(y.shape)) for place in (0, 1)], y


def _operand(reader: TfliteReader, op: TfliteOperator, place: int, rank: int) -> Value:
    tensor = reader.tensor(op, place)
    if tensor.data is None:
        return reader.read(op, place)
    levels = tensor.data.reshape([1] * (rank + 1 - tensor.data.ndim) + list(tensor.shape))
    if levels.ndim != rank + 1 or levels.shape[0] != 1 or len(tensor.scale) != 1:
        raise ValueError(f"{tensor}: a constant of shape {tensor.shape} must broadcast to samples")
    if tensor.dtype not in ("int8", "uint8"):
        raise ValueError(f"{tensor} is {tensor.dtype}: must be int8 or uint8")
    levels = levels[0].transpose(2, 0, 1) if rank == 3 else levels[0]
    info = np.iinfo(tensor.dtype)
    like = Value(
        name="",
        shape=levels.shape,
        scale=float(tensor.scale[0]),
        zero_point=int(tensor.zero_point[0]),
        quant_min=int(info.min),
        quant_max=int(info.max),
    )
    y = reader.new(tensor.name or f"tensor{tensor.index}", like)
    first = next(iter(reader.values.values()))
    reader.append("constant", [first], y, None, {"levels": np.ascontiguousarray(levels)})
    return y


def mean(reader: TfliteReader, op: TfliteOperator) -> None:
    """MEAN."""
    tensor, x = reader.tensor(op, 0), reader.read(op, 0)
    axes = axes_of(reader.constant(op, 1).ravel().tolist(), len(tensor.shape))
    y = reader.value(reader.tensor(op, 0, output=True))
    keep = bool(op.option(0, "?", False))
    if len(x.shape) == 3 and not keep and len(axes) == 1 and axes != (0,):
        raise ValueError("over one of height and width alone, without keep_dims: has no form here")
    count = math.prod(x.shape[axis] for axis in axes)
    attrs = {"axes": axes, "keepdim": keep, "act_min": y.quant_min, "act_max": y.quant_max}
    reader.append("mean", [x], y, attrs, ratio_tensors(x.scale / (y.scale * count)))


def softmax(reader: TfliteReader, op: TfliteOperator) -> None:
    """SOFTMAX over the last dimension, channels of an image."""
    if op.option(0, "f", 1.0) != 1.0:
        raise ValueError(f"beta={op.option(0, 'f', 1.0)}: must be 1")
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
    """RELU, RELU6, RELU_N1_TO_1 and QUANTIZE as operators of their own."""
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    fused = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}.get(op.kind, 0)
    reader.append("requantize", [x], y, activation(fused, y), ratio_tensors(x.scale / y.scale))


def table(reader: TfliteReader, op: TfliteOperator) -> None:
    """A function of one value, as TFLite Micro computes it, for all 256 levels."""
    x, y = reader.read(op, 0), reader.value(reader.tensor(op, 0, output=True))
    levels = np.arange(x.quant_min, x.quant_max + 1, dtype=np.int64)
    results = np.clip(TABLES[op.kind](levels, x, y, op), y.quant_min, y.quant_max)
    reader.append("table", [x], y, None, {"table": results.astype(y.dtype)})
