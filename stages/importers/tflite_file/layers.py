"""Layers and pools of a TFLite file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.importers.tflite_file.contents import TfliteOperator
from stages.importers.tflite_file.reader import TfliteReader, activation
from stages.integer.profiles.adapt import layer_ratio
from stages.integer.program import Op, Value
from stages.integer.ratios import rescaling
from stages.integer.windows import pooled_shape

SAME = 0
"""``Padding`` by number; VALID is 1."""

ImagePads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(reader: TfliteReader, op: TfliteOperator) -> None:
    """CONV_2D: weight (O, kh, kw, I)."""
    stride = (op.option(2, "i", 0), op.option(1, "i", 0))
    dilation = (op.option(5, "i", 1), op.option(4, "i", 1))
    weight = _weight(reader, op, axis=0).transpose(0, 3, 1, 2)
    x = reader.read(op, 0)
    if len(x.shape) != 3 or not weight.shape[1] or x.shape[0] % weight.shape[1]:
        raise ValueError(f"weight {weight.shape} for a sample of shape {x.shape}")
    groups = x.shape[0] // weight.shape[1]
    _convolution(reader, op, weight, stride, dilation, groups, op.option(3, "b", 0))


def depthwise_conv2d(reader: TfliteReader, op: TfliteOperator) -> None:
    """DEPTHWISE_CONV_2D: weight (1, kh, kw, C·m), the m results of a channel side by side."""
    stride = (op.option(2, "i", 0), op.option(1, "i", 0))
    dilation = (op.option(6, "i", 1), op.option(5, "i", 1))
    weight = _weight(reader, op, axis=3).transpose(3, 0, 1, 2)
    x = reader.read(op, 0)
    if len(x.shape) != 3 or weight.shape[1] != 1 or not x.shape[0] or len(weight) % x.shape[0]:
        raise ValueError(f"weight {weight.shape} for a sample of shape {x.shape}")
    _convolution(reader, op, weight, stride, dilation, x.shape[0], op.option(4, "b", 0))


def _convolution(
    reader: TfliteReader,
    op: TfliteOperator,
    weight: NDArray[Any],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    fused: int,
) -> None:
    x = reader.read(op, 0)
    pads = paddings(op, x.shape[1:], weight.shape[2:], stride, dilation)
    if any(before != after for before, after in pads):
        around = ((0, 0), *pads)
        shape = tuple(size + sum(pair) for size, pair in zip(x.shape, around, strict=True))
        x = reader.moved("pad", x, shape, {"pads": around})
        pads = ((0, 0), (0, 0))
    y = reader.value(reader.tensor(op, 0, output=True))
    attrs = {
        "stride": stride,
        "padding": (pads[0][0], pads[1][0]),
        "dilation": dilation,
        "groups": groups,
        **activation(fused, y),
    }
    tensors = _layer(reader, op, x, y, np.ascontiguousarray(weight))
    reader.append("conv2d", [x], y, attrs, tensors)


def fully_connected(reader: TfliteReader, op: TfliteOperator) -> None:
    """FULLY_CONNECTED: weight (O, I), over all of a sample, or over its last dimension."""
    if op.option(1, "b", 0) != 0:
        raise ValueError("weights are in a shuffled format; must be in the default one")
    weight = _weight(reader, op, axis=0)
    if weight.ndim != 2:
        raise ValueError(f"weight {weight.shape}: must be (O, I)")
    x, whole = reader.as_it_is(op, 0), len(reader.tensor(op, 0, output=True).shape) == 2
    if whole and len(x.shape) == 3 and math.prod(x.shape) == weight.shape[1] != x.shape[-1]:
        flat = reader.flattened(x, (math.prod(x.shape),))
        reader.order[flat.name] = x.shape
        x = flat
    if x.name in reader.order and x.shape == weight.shape[1:]:
        weight = channels_first_columns(weight, reader.order[x.name])
    else:
        x = reader.in_file_order(x)
        if whole and math.prod(x.shape) == weight.shape[1]:
            x = reader.flattened(x, weight.shape[1:])
    x = reader.channels_last(x) if len(x.shape) == 3 else x
    y = reader.value(reader.tensor(op, 0, output=True))
    target = reader.plain(y)
    if target.shape != (*x.shape[:-1], len(weight)):
        raise ValueError(f"weight {weight.shape} for samples of shapes {x.shape} and {target.shape}")
    fused = activation(op.option(0, "b", 0), y)
    tensors = _layer(reader, op, x, y, np.ascontiguousarray(weight))
    reader.append("linear", [x], target, fused, tensors)
    reader.turned_into(target, y)


def batch_matmul(reader: TfliteReader, op: TfliteOperator) -> None:
    """BATCH_MATMUL of two values, or of one and a constant."""
    y = reader.value(reader.tensor(op, 0, output=True))
    sides = []
    for place in (0, 1):
        tensor = reader.tensor(op, place)
        constant = tensor.data is not None
        x = reader.constant_value(tensor, len(y.shape)) if constant else reader.read(op, place)
        x = reader.channels_last(x) if len(x.shape) == 3 else x
        if op.option(place, "?", False):
            axes = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
            x = reader.moved("permute", x, [x.shape[axis] for axis in axes], {"axes": axes})
        sides.append(x)
    target = reader.plain(y)
    ratio = rescaling(sides[0].scale * sides[1].scale / y.scale)
    reader.append("matmul", sides, target, activation(0, y), ratio)
    reader.turned_into(target, y)


def channels_first_columns(weight: NDArray[Any], image: tuple[int, int, int]) -> NDArray[Any]:
    """A weight (O, H·W·C) over flattened images, with its columns as those of images (C, H, W)."""
    channels, height, width = image
    columns = weight.reshape(len(weight), height, width, channels).transpose(0, 3, 1, 2)
    return columns.reshape(weight.shape)


def _weight(reader: TfliteReader, op: TfliteOperator, axis: int) -> NDArray[Any]:
    """The weight's levels. Raises ValueError unless its scales go along the output channels, `axis`."""
    tensor, weight = reader.tensor(op, 1), reader.constant(op, 1)
    wanted = ("uint8",) if reader.tensor(op, 0).dtype == "uint8" else ("int8", "int4")
    if tensor.dtype not in wanted:
        raise ValueError(f"{tensor} is {tensor.dtype}: weights must be {' or '.join(wanted)} here")
    least, most = (0, 255) if tensor.dtype == "uint8" else (0, 0)
    if len(tensor.zero_point) and not least <= tensor.zero_point.min() <= tensor.zero_point.max() <= most:
        raise ValueError(
            f"{tensor}: zero points {tensor.zero_point.min()}..{tensor.zero_point.max()} of "
            f"{tensor.dtype} weights: must be within {least}..{most}"
        )
    if weight.ndim <= axis or len(tensor.scale) not in (1, weight.shape[axis]):
        raise ValueError(f"{tensor}: {len(tensor.scale)} scales for a weight of shape {weight.shape}")
    if len(tensor.scale) > 1 and tensor.axis != axis:
        raise ValueError(f"{tensor}: its scales go along dimension {tensor.axis}: must be {axis}")
    return weight


def _layer(
    reader: TfliteReader, op: TfliteOperator, x: Value, y: Value, weight: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """A layer's tensors; its ratio as `layer_ratio` has it."""
    tensor = reader.tensor(op, 1)
    bias = np.zeros(len(weight), np.int32)
    if op.given(2):
        bias = reader.constant(op, 2)
        if bias.dtype != np.int32 or bias.shape != (len(weight),):
            raise ValueError(f"bias {bias.dtype} {bias.shape}: must be int32 ({len(weight)},)")
    ratio = layer_ratio(x, tensor.scale, y)
    return {
        "weight": weight,
        "weight_scale": tensor.scale.astype(np.float32),
        "weight_zero_point": tensor.zero_point.astype(np.int32),
        "bias": bias.astype(np.int32),
        **rescaling(ratio),
    }


def max_pool2d(reader: TfliteReader, op: TfliteOperator) -> None:
    """MAX_POOL_2D."""
    x, y, _, attrs, first = _pool(reader, op, _edge(reader, op))
    attrs["dilation"] = (1, 1)
    fused = activation(op.option(5, "b", 0), y)
    clamped = (fused["act_min"], fused["act_max"]) != (y.quant_min, y.quant_max)
    pooled = reader.new(f"{y.name}/pooled", y) if clamped else y
    target = _with_first(reader, pooled, first)
    reader.append("max_pool2d", [x], target, attrs)
    _without_first(reader, target, pooled, first)
    if clamped:
        reader.append("requantize", [pooled], y, fused, rescaling(1.0))


def _edge(reader: TfliteReader, op: TfliteOperator) -> tuple[Value, tuple[int, int], bool] | None:
    """The image, its padding and `ceil_mode` where the lowest level around it is the pool's own padding."""
    tensor = reader.tensor(op, 0)
    if tensor.index not in reader.filled or op.option(0, "b", SAME) == SAME:
        return None
    x, pads, level = reader.filled[tensor.index]
    shape = reader.tensor(op, 0, output=True).shape
    if level != x.quant_min or len(pads) != 3 or any(pads[0]) or len(shape) != 4:
        return None
    attrs = {
        "kernel": (op.option(4, "i", 0), op.option(3, "i", 0)),
        "stride": (op.option(2, "i", 0), op.option(1, "i", 0)),
        "padding": (pads[1][0], pads[2][0]),
        "dilation": (1, 1),
    }
    _, height, width, channels = shape
    for ceil in (False, True):
        pool = Op(op="max_pool2d", inputs=(x.name,), output="", attrs={**attrs, "ceil_mode": ceil})
        with suppress(ValueError):  # windows that do not fit
            if pooled_shape(pool, [x.shape]) == (channels, height, width):
                return x, attrs["padding"], ceil
    return None


def avg_pool2d(reader: TfliteReader, op: TfliteOperator) -> None:
    """AVERAGE_POOL_2D, whose padding does not count."""
    x, y, kernel, attrs, first = _pool(reader, op)
    if not attrs["ceil_mode"]:
        del attrs["ceil_mode"]
    attrs |= activation(op.option(5, "b", 0), y)
    target = _with_first(reader, y, first)
    reader.append("avg_pool2d", [x], target, attrs, rescaling(1.0 / math.prod(kernel)))
    _without_first(reader, target, y, first)


def _with_first(reader: TfliteReader, y: Value, first: Sequence[int]) -> Value:
    """A value with windows before `y`'s first, as many as `first` says of rows and columns."""
    if not any(first):
        return y
    rows, columns = (size + more for size, more in zip(y.shape[1:], first, strict=True))
    return reader.new(f"{y.name}/windows", replace(y, shape=(y.shape[0], rows, columns)))


def _without_first(reader: TfliteReader, x: Value, y: Value, first: Sequence[int]) -> None:
    """Drop those windows."""
    if x is not y:
        reader.append("slice", [x], y, {"starts": (0, *first), "ends": x.shape, "steps": (1, 1, 1)})


def _pool(
    reader: TfliteReader,
    op: TfliteOperator,
    edge: tuple[Value, tuple[int, int], bool] | None = None,
) -> tuple[Value, Value, tuple[int, int], dict[str, Any], tuple[int, int]]:
    """Both values, the window and the attributes of a pool, and how many windows to drop before the first.

    One more row behind the image than before it is `ceil_mode`; with a step of 1 that adds no window, and as
    much before the image adds one, which is dropped.
    """
    x = reader.read(op, 0) if edge is None else edge[0]
    y = reader.value(reader.tensor(op, 0, output=True))
    if (x.scale, x.zero_point, x.dtype) != (y.scale, y.zero_point, y.dtype) or len(x.shape) != 3:
        raise ValueError("pools keep scale and zero point of images")
    stride = (op.option(2, "i", 0), op.option(1, "i", 0))
    kernel = (op.option(4, "i", 0), op.option(3, "i", 0))
    pads = paddings(op, x.shape[1:], kernel, stride, (1, 1))
    first = [int(before != after and s == 1) for (before, after), s in zip(pads, stride, strict=True)]
    padding = [before + more for (before, _), more in zip(pads, first, strict=True)]
    attrs: dict[str, Any] = {
        "kernel": kernel,
        "stride": stride,
        "padding": (padding[0], padding[1]),
        "ceil_mode": any(after != before for (_, after), before in zip(pads, padding, strict=True)),
    }
    if edge is not None:
        _, attrs["padding"], attrs["ceil_mode"] = edge
        first = [0, 0]
    return x, y, kernel, attrs, (first[0], first[1])


def paddings(
    op: TfliteOperator,
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> ImagePads:
    """What lies before and after an image's rows and columns: for SAME as much as the last window needs.

    Raises:
        ValueError: steps or windows that are not positive.
    """
    if min(*kernel, *stride, *dilation) < 1:
        raise ValueError(f"kernel {tuple(kernel)}, stride {tuple(stride)}, dilation {tuple(dilation)}")
    if op.option(0, "b", SAME) != SAME:
        return (0, 0), (0, 0)
    pads = []
    for size, k, step, d in zip(image, kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + d * (k - 1) + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]
