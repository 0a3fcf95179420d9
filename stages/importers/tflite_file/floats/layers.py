"""Layers and pools of a float file, as ONNX's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stages.importers.onnx_file.tensors import Array
from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.floats.reader import FloatReader, FloatValue
from stages.importers.tflite_file.layers import SAME, channels_first_columns, paddings


def conv2d(reader: FloatReader, op: TfliteOperator) -> None:
    """CONV_2D: weight (O, kh, kw, I)."""
    weight, x = _kernel(reader, op).transpose(0, 3, 1, 2), _image(reader, op)
    if not weight.shape[1] or x.shape[0] % weight.shape[1]:
        raise ValueError(f"weight {weight.shape} for a sample of shape {x.shape}")
    dilation = (op.option(5, "i", 1), op.option(4, "i", 1))
    _convolution(reader, op, x, weight, dilation, x.shape[0] // weight.shape[1], 3)


def depthwise_conv2d(reader: FloatReader, op: TfliteOperator) -> None:
    """DEPTHWISE_CONV_2D: weight (1, kh, kw, C·m), the m results of a channel side by side."""
    weight, x = _kernel(reader, op).transpose(3, 0, 1, 2), _image(reader, op)
    if weight.shape[1] != 1 or not x.shape[0] or len(weight) % x.shape[0]:
        raise ValueError(f"weight {weight.shape} for a sample of shape {x.shape}")
    _convolution(reader, op, x, weight, (op.option(6, "i", 1), op.option(5, "i", 1)), x.shape[0], 4)


def _convolution(
    reader: FloatReader,
    op: TfliteOperator,
    x: FloatValue,
    weight: Array,
    dilation: tuple[int, int],
    groups: int,
    slot: int,
) -> None:
    stride = (op.option(2, "i", 0), op.option(1, "i", 0))
    (top, bottom), (left, right) = paddings(op, x.shape[1:], weight.shape[2:], stride, dilation)
    attrs = {"strides": list(stride), "dilations": list(dilation), "pads": [top, left, bottom, right]}
    reader.fused(op, slot, "Conv", [x, weight, _bias(reader, op, len(weight))], group=groups, **attrs)


def transpose_conv(reader: FloatReader, op: TfliteOperator) -> None:
    """TRANSPOSE_CONV: output's shape, weight (O, kh, kw, I), input; SAME crops what is over."""
    weight, x, y = _kernel(reader, op), _image(reader, op, 2), reader.tensor(op, 0, output=True)
    stride = (op.option(2, "i", 0), op.option(1, "i", 0))
    if min(stride) < 1 or len(y.shape) != 4:
        raise ValueError(f"stride {stride}, output of shape {y.shape}")
    before, after = [], []
    for size, out, k, s in zip(x.shape[1:], y.shape[1:3], weight.shape[1:3], stride, strict=True):
        over = (size - 1) * s + k - out  # negative: zeros behind
        before.append(max(over, 0) // 2 if op.option(0, "b", SAME) == SAME else 0)
        after.append(over - before[-1])
    more = [max(-n, 0) for n in after]
    attrs: dict[str, Any] = {
        "strides": list(stride),
        "pads": [*before, *(max(n, 0) for n in after)],
        "output_padding": more,
    }
    bias = _bias(reader, op, len(weight), place=3)
    reader.fused(op, 3, "ConvTranspose", [x, weight.transpose(3, 0, 1, 2), bias], **attrs)


def fully_connected(reader: FloatReader, op: TfliteOperator) -> None:
    """FULLY_CONNECTED: weight (O, I), over all of a sample, or over its last dimension."""
    if op.option(1, "b", 0) != 0:
        raise ValueError("weights are in a shuffled format; must be in the default one")
    weight, x = reader.constant(op, 1), reader.as_it_is(op, 0)
    if weight.ndim != 2:
        raise ValueError(f"weight {weight.shape}: must be (O, I)")
    y, bias = reader.tensor(op, 0, output=True), _bias(reader, op, len(weight))
    whole = len(y.shape) == 2
    if whole and len(x.shape) == 3 and math.prod(x.shape) == weight.shape[1] != x.shape[-1]:
        flat = reader.reshaped(x, (math.prod(x.shape),))
        reader.order[flat.name] = (x.shape[0], x.shape[1], x.shape[2])
        x = flat
    if x.name in reader.order and x.shape == weight.shape[1:]:
        weight = channels_first_columns(weight, reader.order[x.name])
    else:
        x = reader.in_file_order(x)
        x = reader.channels_last(x) if len(x.shape) == 3 else x
        if whole and math.prod(x.shape) == weight.shape[1]:
            x = reader.reshaped(x, weight.shape[1:])
    if y.shape[1:] != (*x.shape[:-1], len(weight)) or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"weight {weight.shape} for samples of {x.shape} and an output {y.shape}")
    if len(x.shape) != 3:
        reader.fused(op, 0, "MatMul", [x, weight.T, bias])
        return
    z = reader.result(op)  # an image: a layer over its channels
    rows = reader.emit("MatMul", [x, weight.T, bias], reader.new(f"{z.name}/rows", y.shape[1:]))
    turned = reader.channels_first(rows)
    number = op.option(0, "b", 0)
    if number:
        reader.activate(number, turned, z)
    else:
        reader.emit("Identity", [turned], z)


def pool(kind: str, reader: FloatReader, op: TfliteOperator) -> None:
    """AVERAGE_POOL_2D, whose padding does not count, and MAX_POOL_2D."""
    x, stride = _image(reader, op), (op.option(2, "i", 0), op.option(1, "i", 0))
    kernel = (op.option(4, "i", 0), op.option(3, "i", 0))
    pads = paddings(op, x.shape[1:], kernel, stride, (1, 1))
    # one more row behind an image than before it is what a rounding up of the windows' number reads
    up = all(a == b or (a == b + 1 and s > 1) for (b, a), s in zip(pads, stride, strict=True))
    more = up and any(a != b for b, a in pads)
    (top, bottom), (left, right) = [(b, b) for b, _ in pads] if more else pads
    attrs = {"kernel_shape": list(kernel), "strides": list(stride), "ceil_mode": int(more)}
    reader.fused(op, 5, kind, [x], pads=[top, left, bottom, right], **attrs)


def batch_matmul(reader: FloatReader, op: TfliteOperator) -> None:
    """BATCH_MATMUL of two values, or of one and a constant on the right."""
    sides: list[FloatValue | Array] = []
    for place in (0, 1):
        transposed, tensor = op.option(place, "?", False), reader.tensor(op, place)
        if reader.is_constant(tensor):
            array = reader.constant(op, place)
            sides.append(array.swapaxes(-1, -2) if transposed else array)
            continue
        x = reader.read(op, place)
        x = reader.channels_last(x) if len(x.shape) == 3 else x
        if transposed:
            x = reader.turned(x, [*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2])
        sides.append(x)
    if isinstance(sides[1], np.ndarray) and math.prod(sides[1].shape[:-2]) == 1:
        sides[1] = sides[1].reshape(sides[1].shape[-2:])
    y = reader.result(op)
    if len(y.shape) != 3:
        reader.emit("MatMul", sides, y)
        return
    plain = reader.new(f"{y.name}/plain", (y.shape[1], y.shape[2], y.shape[0]))
    reader.emit("Identity", [reader.channels_first(reader.emit("MatMul", sides, plain))], y)


def _kernel(reader: FloatReader, op: TfliteOperator) -> Array:
    weight = reader.constant(op, 1)
    if weight.ndim != 4 or weight.dtype.kind != "f":
        raise ValueError(f"weight {weight.dtype} {weight.shape}: must be floats of four dimensions")
    return weight


def _bias(reader: FloatReader, op: TfliteOperator, count: int, place: int = 2) -> Array | None:
    if not op.given(place):
        return None
    bias = reader.constant(op, place)
    if bias.shape != (count,) or bias.dtype.kind != "f":
        raise ValueError(f"bias {bias.dtype} {bias.shape}: must be float ({count},)")
    return bias


def _image(reader: FloatReader, op: TfliteOperator, place: int = 0) -> FloatValue:
    x = reader.read(op, place)
    if len(x.shape) != 3:
        raise ValueError(f"a sample of shape {x.shape}: must be an image")
    return x
