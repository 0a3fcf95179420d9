"""Convolutions, linear layers and pools as TFLite operators, with their padding and their bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from stages.exporters.tflite_file.bounds import Bounds, finish
from stages.exporters.tflite_file.layout import IMAGE, TensorLayout
from stages.exporters.tflite_file.writer import TfliteWriter, no_form
from stages.integer.bounds import centred_weight
from stages.integer.program import Op

SAME, VALID = schema.Padding.SAME, schema.Padding.VALID


def conv2d(writer: TfliteWriter, op: Op) -> None:
    """CONV_2D, in groups too; DEPTHWISE_CONV_2D where each group has one channel."""
    weight, groups = _weight(writer, op), op.attrs["groups"]
    (stride_h, stride_w), (dilation_h, dilation_w) = op.attrs["stride"], op.attrs["dilation"]
    x, padding = _windows(writer, op, weight.shape[2:], (dilation_h, dilation_w))
    common: dict[str, Any] = {
        "padding": padding,
        "strideH": stride_h,
        "strideW": stride_w,
        "dilationHFactor": dilation_h,
        "dilationWFactor": dilation_w,
    }
    y, bounds = _image(writer, op), Bounds.of(op, writer.program)
    if groups > 1 and weight.shape[1] == 1:
        kernel = weight.transpose(1, 2, 3, 0)  # (1, kH, kW, O)
        inputs = [x, *_parameters(writer, op, kernel, axis=3)]
        multiplier = weight.shape[0] // groups
        depthwise = schema.DepthwiseConv2DOptionsT(
            depthMultiplier=multiplier, fusedActivationFunction=bounds.fused, **common
        )
        finish(writer, op, "DEPTHWISE_CONV_2D", inputs, y, depthwise, bounds)
        return
    inputs = [x, *_parameters(writer, op, weight.transpose(0, 2, 3, 1), axis=0)]
    options = schema.Conv2DOptionsT(fusedActivationFunction=bounds.fused, **common)
    finish(writer, op, "CONV_2D", inputs, y, options, bounds)


def linear(writer: TfliteWriter, op: Op) -> None:
    """FULLY_CONNECTED; behind a flattened image with the weights in the image's order."""
    weight = _weight(writer, op)
    (name,) = op.inputs
    shape = writer.program.values[name].shape
    flattened = name in writer.stored and writer.stored[name].layout
    if flattened and flattened.flat:
        weight = flattened.to_file(weight)
        layout, x = TensorLayout.plain(shape), writer.value(name)
    else:
        layout = writer.layout(name)
        if layout.order[-1] != len(shape) - 1:
            layout = TensorLayout.plain(shape)
        x = writer.value(name, layout)
    layout = layout.resize({len(shape) - 1: len(weight)})
    bounds = Bounds.of(op, writer.program)
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=bounds.fused, keepNumDims=len(shape) > 1, asymmetricQuantizeInputs=False
    )
    inputs = [x, *_parameters(writer, op, weight, axis=0)]
    finish(writer, op, "FULLY_CONNECTED", inputs, writer.declare(op.output, layout), options, bounds)


def avg_pool2d(writer: TfliteWriter, op: Op) -> None:
    """AVERAGE_POOL_2D, which divides by the number of pixels inside the image, as the profile does."""
    x, y = (writer.program.values[name] for name in (op.inputs[0], op.output))
    if (x.scale, x.zero_point) != (y.scale, y.zero_point):
        raise no_form(op, "its scale is not its input's", "convert.arithmetic=tflm, which requantizes first")
    source, padding = _windows(writer, op, op.attrs["kernel"], (1, 1), pads=False)
    _pool(writer, op, "AVERAGE_POOL_2D", source, padding)


def max_pool2d(writer: TfliteWriter, op: Op) -> None:
    """MAX_POOL_2D; with the lowest level around the image where windows reach out otherwise than in SAME."""
    if tuple(op.attrs["dilation"]) != (1, 1):
        raise no_form(op, f"dilation={op.attrs['dilation']}", "a pool without dilation")
    source, padding = _windows(writer, op, op.attrs["kernel"], (1, 1), lowest=True)
    _pool(writer, op, "MAX_POOL_2D", source, padding)


def _pool(writer: TfliteWriter, op: Op, code: str, source: int, padding: int) -> None:
    (height, width), (stride_h, stride_w) = op.attrs["kernel"], op.attrs["stride"]
    bounds = Bounds.of(op, writer.program)
    options = schema.Pool2DOptionsT(
        padding=padding,
        strideH=stride_h,
        strideW=stride_w,
        filterHeight=height,
        filterWidth=width,
        fusedActivationFunction=bounds.fused,
    )
    finish(writer, op, code, [source], _image(writer, op), options, bounds)


def _image(writer: TfliteWriter, op: Op) -> int:
    return writer.declare(op.output, TensorLayout(sizes=writer.program.values[op.output].shape, order=IMAGE))


def _windows(
    writer: TfliteWriter,
    op: Op,
    kernel: Sequence[int],
    dilation: Sequence[int],
    *,
    pads: bool = True,
    lowest: bool = False,
) -> tuple[int, int]:
    """The image and the kind of padding with which TFLite's windows are the operator's.

    TFLite knows two: VALID is none; SAME gives ⌈size / stride⌉ windows, with ⌊half⌋ of what they lack before
    the image. What is neither is padded first.

    Args:
        writer: the file.
        op: with ``stride`` and ``padding``.
        kernel: the window's.
        dilation: its steps.
        pads: whether padding may be written before the operator, so that it counts.
        lowest: pad with the lowest level instead of real zero.
    """
    x, y = (writer.program.values[name] for name in (op.inputs[0], op.output))
    image = writer.value(x.name, TensorLayout(sizes=x.shape, order=IMAGE))
    axes = list(
        zip(x.shape[1:], y.shape[1:], kernel, op.attrs["stride"], dilation, op.attrs["padding"], strict=True)
    )
    reach = [(out - 1) * s + d * (k - 1) + 1 for _, out, k, s, d, _ in axes]
    behind = [max(r - size - p, 0) for r, (size, *_, p) in zip(reach, axes, strict=True)]
    if not any(op.attrs["padding"]) and not any(behind):
        return image, VALID
    lacking = [max(r - size, 0) for r, (size, *_) in zip(reach, axes, strict=True)]
    if all(
        out == -(-size // s) and p == lack // 2
        for lack, (size, out, _, s, _, p) in zip(lacking, axes, strict=True)
    ):
        return image, SAME
    if not pads:
        given = tuple(op.attrs["padding"])
        raise no_form(op, f"padding={given} is not TFLite's SAME", "a pad in front of a pool without padding")
    before = op.attrs["padding"]
    sizes = [p + size + b for p, (size, *_), b in zip(before, axes, behind, strict=True)]
    padded = writer.like(image, f"{op.output}/padded", (writer.batch, *sizes, x.shape[0]))
    rows = np.array([(0, 0), *zip(before, behind, strict=True), (0, 0)], np.int32)
    amounts = writer.constant(f"{op.output}/pads", rows)
    if lowest:
        level = np.array([x.quant_min], x.dtype)
        filling = writer.constant(f"{op.output}/lowest", level, np.array([x.scale]), zero=x.zero_point)
        return writer.operator("PADV2", [image, amounts, filling], padded, schema.PadV2OptionsT()), VALID
    return writer.operator("PAD", [image, amounts], padded, schema.PadOptionsT()), VALID


def _weight(writer: TfliteWriter, op: Op) -> NDArray[Any]:
    """Weights as the file has them: int8 with zero point 0, or in a program of uint8 uint8 with its own."""
    if len(op.inputs) > 1:
        raise no_form(op, "adds a residual", "convert.arithmetic=tflm, which adds it apart")
    weight = centred_weight(op)
    zero = _zero_point(writer, op)
    info = np.iinfo(writer.program.values[op.inputs[0]].dtype)
    if math.prod(weight.shape) and not info.min <= weight.min() + zero <= weight.max() + zero <= info.max:
        low, high = int(weight.min()), int(weight.max())
        raise no_form(
            op,
            f"weights span {low}..{high} around their zero point; "
            f"TFLite has {info.dtype} with zero point {zero}",
            "quantizer=symmetric",
        )
    return (weight + zero).astype(info.dtype)


def _zero_point(writer: TfliteWriter, op: Op) -> int:
    """What stands for 0 among a layer's weights."""
    if writer.program.values[op.inputs[0]].dtype == np.int8:
        return 0
    zero_point = op.tensors["weight_zero_point"]
    if len(zero_point) > 1 or len(op.tensors["weight_scale"]) > 1:
        raise no_form(
            op, "has uint8 levels, for which TFLite's weights have one scale", "granularity=per_tensor"
        )
    return int(zero_point[0]) + (128 if op.tensors["weight"].dtype == np.int8 else 0)


def _parameters(writer: TfliteWriter, op: Op, weight: NDArray[Any], axis: int) -> list[int]:
    """The tensors of weight and bias; the bias has the scale of the products."""
    scale = op.tensors["weight_scale"]
    steps = np.float32(writer.program.values[op.inputs[0]].scale) * scale
    if not (np.isfinite(steps) & (steps > 0)).all():
        raise no_form(op, "the bias's scale leaves float32", "other ranges")
    return [
        writer.weight(
            f"{op.output}/weight", np.ascontiguousarray(weight), scale, axis, _zero_point(writer, op)
        ),
        writer.constant(f"{op.output}/bias", op.tensors["bias"], steps),
    ]
