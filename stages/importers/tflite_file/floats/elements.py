"""Operators on the elements of a float file's tensors, reductions, softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.floats.reader import FLOATS, FloatOperand, FloatReader, FloatValue
from stages.importers.tflite_file.reader import CHANNELS_FIRST, axes_of

UNARY: Mapping[str, str] = {
    **{"RELU": "Relu", "LOGISTIC": "Sigmoid", "TANH": "Tanh", "HARD_SWISH": "HardSwish", "ELU": "Elu"},
    **{"ABS": "Abs", "NEG": "Neg", "EXP": "Exp", "LOG": "Log", "SQRT": "Sqrt", "FLOOR": "Floor"},
    **{"CEIL": "Ceil", "SIN": "Sin", "COS": "Cos", "ROUND": "Round", "SIGN": "Sign"},
}
"""Functions of one element that ONNX has too, by operator."""

CLIPPED: Mapping[str, tuple[float, float]] = {
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU_0_TO_1": (0.0, 1.0),
}

BINARY: Mapping[str, str] = {
    **{"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min"},
    **{"POW": "Pow", "SQUARED_DIFFERENCE": "Sub"},
}
"""Functions of two elements, by operator."""

REDUCTIONS: Mapping[str, str] = {
    "MEAN": "ReduceMean",
    "SUM": "ReduceSum",
    "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin",
    "REDUCE_PROD": "ReduceProd",
}

LEAST_NORM = 1e-6
"""What L2_NORMALIZATION divides by at least (internal/reference/l2normalization.h)."""


def unary(reader: FloatReader, op: TfliteOperator) -> None:
    """A function of one element; a flattened image stays in its order."""
    x, y = _alike(reader, op)
    if op.kind in CLIPPED:
        reader.emit("Clip", [x, *(np.array(n, np.float32) for n in CLIPPED[op.kind])], y)
    elif op.kind == "LEAKY_RELU":
        reader.emit("LeakyRelu", [x], y, alpha=float(op.option(0, "f", 0.0)))
    elif op.kind == "GELU":
        reader.emit("Gelu", [x], y, approximate="tanh" if op.option(0, "?", False) else "none")
    elif op.kind == "SQUARE":
        reader.emit("Mul", [x, x], y)
    elif op.kind == "RSQRT":
        root = reader.emit("Sqrt", [x], reader.new(f"{y.name}/sqrt", y.shape))
        reader.emit("Reciprocal", [root], y)
    else:
        reader.emit(UNARY[op.kind], [x], y)


def _alike(reader: FloatReader, op: TfliteOperator) -> tuple[FloatValue, FloatValue]:
    """The input as it lies, and the output, which lies alike."""
    x, y = reader.as_it_is(op, 0), reader.result(op)
    if x.shape != y.shape:
        raise ValueError(f"samples of {x.shape} give {y.shape}: must be alike")
    if x.name in reader.order:
        reader.order[y.name] = reader.order[x.name]
    return x, y


def same(reader: FloatReader, op: TfliteOperator) -> None:
    """CAST and DEQUANTIZE between floats."""
    x, y = reader.tensor(op, 0), reader.tensor(op, 0, output=True)
    if x.dtype not in FLOATS or y.dtype not in FLOATS:
        raise ValueError(f"from {x.dtype} to {y.dtype}: must be between floats")
    reader.values[y.index] = reader.as_it_is(op, 0)


def binary(reader: FloatReader, op: TfliteOperator) -> None:
    """A function of two tensors, either of which may be constant, and which broadcast."""
    rank = len(reader.sample(reader.tensor(op, 0, output=True)))
    inputs = [operand(reader, op, place, rank) for place in (0, 1)]
    kind = BINARY[op.kind]
    if op.kind in ("MAXIMUM", "MINIMUM", "POW"):
        reader.emit(kind, inputs, reader.result(op))
    elif op.kind == "SQUARED_DIFFERENCE":
        y = reader.result(op)
        apart = reader.emit(kind, inputs, reader.new(f"{y.name}/difference", y.shape))
        reader.emit("Mul", [apart, apart], y)
    else:
        reader.fused(op, 0, kind, inputs)


def operand(reader: FloatReader, op: TfliteOperator, place: int, rank: int) -> FloatOperand:
    """An input of an operator whose samples have `rank` dimensions, with ones before its own."""
    tensor = reader.tensor(op, place)
    if reader.is_constant(tensor):
        array = reader.constant(op, place)
        if array.size == 1:
            return array.reshape(())
        array = array.reshape([1] * (rank + 1 - array.ndim) + list(array.shape))
        return array.transpose(0, *(axis + 1 for axis in CHANNELS_FIRST)) if rank == 3 else array
    x = reader.read(op, place)
    missing = rank - len(x.shape)
    if missing <= 0:
        return x
    if reader.batch != 1:
        raise ValueError(f"{tensor} has fewer dimensions than the result, of {reader.batch} samples")
    rows = reader.reshaped(x, (*[1] * missing, *x.shape))
    return reader.channels_first(rows) if rank == 3 else rows


def prelu(reader: FloatReader, op: TfliteOperator) -> None:
    """PRELU with constant slopes: one, one a channel, or one an element."""
    x, slope, y = reader.read(op, 0), reader.constant(op, 1), reader.result(op)
    if slope.ndim == len(x.shape) + 1 and slope.shape[0] == 1:
        slope = slope[0]
    slope = slope.reshape([1] * (len(x.shape) - slope.ndim) + list(slope.shape))
    reader.emit("PRelu", [x, slope.transpose(CHANNELS_FIRST) if len(x.shape) == 3 else slope], y)


def softmax(reader: FloatReader, op: TfliteOperator) -> None:
    """SOFTMAX and LOG_SOFTMAX over the last dimension, channels of an image."""
    x, y = reader.read(op, 0), reader.result(op)
    beta = float(op.option(0, "f", 0.0)) if op.kind == "SOFTMAX" else 1.0
    if beta != 1.0:
        factor = np.array(beta, np.float32)
        x = reader.emit("Mul", [x, factor], reader.new(f"{y.name}/scaled", x.shape))
    kind = "Softmax" if op.kind == "SOFTMAX" else "LogSoftmax"
    reader.emit(kind, [x], y, axis=1 if len(x.shape) == 3 else len(x.shape))


def l2_normalization(reader: FloatReader, op: TfliteOperator) -> None:
    """L2_NORMALIZATION over the last dimension, channels of an image."""
    x = reader.read(op, 0)
    axis = 1 if len(x.shape) == 3 else len(x.shape)
    shape = [1 if i == axis - 1 else size for i, size in enumerate(x.shape)]
    y = reader.tensor(op, 0, output=True)
    axes = np.array([axis], np.int64)
    norm = reader.emit("ReduceL2", [x, axes], reader.new(f"{y.name}/norm", shape), keepdims=1)
    least: list[FloatOperand] = [norm, np.array(LEAST_NORM, np.float32)]
    reader.fused(op, 0, "Div", [x, reader.emit("Clip", least, reader.new(f"{y.name}/least", shape))])


def reduction(reader: FloatReader, op: TfliteOperator) -> None:
    """MEAN, SUM, extremes and products along dimensions that are not the batch's."""
    tensor, x = reader.tensor(op, 0), reader.read(op, 0)
    numbers: Sequence[int] = reader.constant(op, 1).ravel().tolist()
    axes = tuple(sorted(set(axes_of(numbers, len(tensor.shape)))))
    if not axes:
        raise ValueError("reduces no dimension")
    keep, y = bool(op.option(0, "?", False)), reader.result(op)
    # of an image without its rows or its columns alone, what is left is (C, W) here and (W, C) there
    swapped = len(x.shape) == 3 and not keep and len(axes) == 1 and axes != (0,)
    left = [size for axis, size in enumerate(x.shape) if axis not in axes]
    target = reader.new(f"{y.name}/reduced", left) if swapped else y
    places = np.array([axis + 1 for axis in axes], np.int64)
    reader.emit(REDUCTIONS[op.kind], [x, places], target, keepdims=int(keep))
    if swapped:
        reader.emit("Transpose", [target], y, perm=[0, 2, 1])
