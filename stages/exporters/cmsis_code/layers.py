"""Convolutions, linear layers and means as calls; images are (H, W, C).

``input_offset`` is minus the input's zero point, ``output_offset`` the output's. Convolutions have a
multiplier a channel. A mean is a layer whose weights are 1, with the multiplier that TFLite's MEAN has.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.exporters.cmsis_code.images import activation, image_dims, images, tile
from stages.exporters.cmsis_code.scratch import (
    ConvolutionWindows,
    convolution,
    depthwise,
    wrapped_convolution,
)
from stages.exporters.cmsis_code.writer import CmsisWriter, NoCallError
from stages.exporters.tflite_file.layout import TensorLayout
from stages.integer.bounds import centred_weight
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.kernels.mean import count
from stages.integer.program import Op, Value


def conv2d(w: CmsisWriter, op: Op) -> None:
    """A convolution, in groups too; a depthwise one where each of several groups has one channel."""
    x, y = w.value_of(op)
    weight, groups = _weight(op), op.attrs["groups"]
    windows = _windows(op, x, y)
    outputs = len(weight)
    (source, target), call = images(w, op), "arm_convolve_wrapper_s8"
    if groups > 1 and weight.shape[1] == 1:
        _depthwise(w, op, weight[:, 0].transpose(1, 2, 0), windows, source, target)
        return
    scratch, extra = wrapped_convolution(windows, x.shape[0]), []
    if weight.shape[1] != x.shape[0] or (
        windows.along_a_row(x.shape[0]) and not windows.pointwise and not windows.fills_the_row
    ):
        # the wrapper's way along rows takes TFLite's padding alone; grouped ones end here in any case
        call, scratch, extra = "arm_convolve_s8", convolution(windows, x.shape[0]), ["0"]
    context, bias = w.context(scratch), w.data("bias", op.tensors["bias"])
    w.call(
        call,
        context,
        w.structure("conv_params", "params", **_offsets(x, y), **_steps(windows), **activation(op)),
        w.structure("per_channel_quant_params", "quantization", **_ratios(w, op, outputs)),
        image_dims(w, "dims_input", x),
        source,
        w.dims("dims_filter", outputs, *weight.shape[2:], weight.shape[1]),
        w.data("weight", np.ascontiguousarray(weight.transpose(0, 2, 3, 1))),
        w.dims("dims_bias", 1, 1, 1, outputs),
        bias,
        *extra,
        image_dims(w, "dims_output", y),
        target,
        reads=[source],
    )


def linear(w: CmsisWriter, op: Op) -> None:
    """A fully connected layer; behind a flattened image with the weights in the image's order."""
    x, _ = w.value_of(op)
    weight = _weight(op)
    own = w.placed[x.name].layout if x.name in w.placed else None
    if own is not None and own.flat:
        weight, layout, source = own.to_file(weight), TensorLayout.plain(x.shape), w.at(op, x.name)
    else:
        layout = w.layout(x.name)
        if layout.order[-1] != len(x.shape) - 1:
            layout = TensorLayout.plain(x.shape)
        source = w.at(op, x.name, layout)
    target = w.declare(op.output, layout.resize({len(x.shape) - 1: len(weight)}))
    ratios = [op.tensors[name] for name in ("multiplier", "shift")]
    _fully_connected(w, op, weight, op.tensors["bias"], ratios, math.prod(x.shape[:-1]), source, target)


def mean(w: CmsisWriter, op: Op) -> None:
    """A mean over dimensions that lie together: depthwise where they come first, else fully connected."""
    x, y = w.value_of(op)
    size = count(op, w.program)
    factor = float(op.tensors["ratio"][0]) * y.scale / x.scale * size
    if abs(factor - 1) > 1e-4:
        raise NoCallError(op, f"is {factor:.6g} times a mean", "a mean in place of a sum")
    layout, axes = w.layout(x.name), op.attrs["axes"]
    long = [axis for axis in layout.order if layout.sizes[axis] != 1]
    first = [axis for axis in long if axis in axes]
    rest = [axis for axis in long if axis not in axes]
    if long not in (first + rest, rest + first):
        layout = TensorLayout(sizes=layout.sizes, order=(*axes, *(a for a in layout.order if a not in axes)))
        long = first + rest
    source = w.at(op, x.name, layout)
    target = w.declare(op.output, layout.reduce(axes, bool(op.attrs["keepdim"])))
    others = math.prod(layout.sizes) // size
    ratios = _mean_ratio(x, y, size)
    if long == first + rest and others > 1:
        ones = np.ones((1, size, others), np.int8)
        windows = ConvolutionWindows(
            image=(1, size), kernel=(1, size), stride=(1, 1), padding=(0, 0), dilation=(1, 1), outputs=(1, 1)
        )
        _depthwise(w, op, ones, windows, source, target, ratios)
        return
    _fully_connected(
        w, op, np.ones((1, size), np.int8), np.zeros(1, np.int32), ratios, others, source, target
    )


def requantize(w: CmsisWriter, op: Op) -> None:
    """Other scale and zero point: a pointwise convolution of one channel with weight 1."""
    x, y = w.value_of(op)
    layout = w.placed[x.name].layout if x.name in w.placed else w.layout(x.name)
    source = w.at(op, x.name, layout)
    target = w.declare(op.output, layout)
    size = math.prod(x.shape)
    windows = ConvolutionWindows(
        image=(1, size), kernel=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1), outputs=(1, size)
    )
    context = w.context(wrapped_convolution(windows, 1))
    one, pixels = w.dims("dims_one", 1, 1, 1, 1), w.dims("dims_pixels", 1, 1, size, 1)
    w.call(
        "arm_convolve_wrapper_s8",
        context,
        w.structure("conv_params", "params", **_offsets(x, y), **_steps(windows), **activation(op)),
        w.structure("per_channel_quant_params", "quantization", **_ratios(w, op, 1)),
        pixels,
        source,
        one,
        w.data("weight", np.ones(1, np.int8)),
        one,
        w.data("bias", np.zeros(1, np.int32)),
        pixels,
        target,
        reads=[source],
    )


def _depthwise(
    w: CmsisWriter,
    op: Op,
    weight: NDArray[np.int8],
    windows: ConvolutionWindows,
    source: str,
    target: str,
    ratios: list[NDArray[Any]] | None = None,
) -> None:
    """`weight`: (kH, kW, O)."""
    x, y = w.value_of(op)
    outputs = weight.shape[-1]
    channels = math.prod(x.shape) // math.prod(windows.image)
    bias = np.zeros(outputs, np.int32) if ratios else op.tensors["bias"]
    multiplier, shift = ratios or (op.tensors["multiplier"], op.tensors["shift"])
    w.call(
        "arm_depthwise_conv_wrapper_s8",
        w.context(depthwise(windows, channels, outputs)),
        w.structure(
            "dw_conv_params",
            "params",
            **_offsets(x, y),
            ch_mult=outputs // channels,
            **_steps(windows),
            **activation(op),
        ),
        w.structure("per_channel_quant_params", "quantization", **w.quantization(multiplier, shift, outputs)),
        w.dims("dims_input", 1, *windows.image, channels),
        source,
        w.dims("dims_filter", 1, *windows.kernel, outputs),
        w.data("weight", np.ascontiguousarray(weight)),
        w.dims("dims_bias", 1, 1, 1, outputs),
        w.data("bias", bias),
        w.dims("dims_output", 1, *windows.outputs, outputs),
        target,
        reads=[source],
    )


def _fully_connected(
    w: CmsisWriter,
    op: Op,
    weight: NDArray[np.int8],
    bias: NDArray[np.int32],
    ratios: list[NDArray[Any]],
    rows: int,
    source: str,
    target: str,
) -> None:
    """`weight`: (O, I). With MVE the kernel wants bias + input offset · the weights' sums in its buffer.

    They are computed here, and stored instead of the bias: arm_vector_sum_s8 would at run time, into memory.
    """
    x, y = w.value_of(op)
    outputs, inputs = weight.shape
    sums = bias.astype(np.int64) - x.zero_point * weight.sum(axis=1, dtype=np.int64)
    step = w.step
    w.constants.append("#if defined(ARM_MATH_MVEI)")
    sums_name = w.data("sums", sums.astype(np.int32))
    w.constants += [
        f"#define CONTEXT_{step} {{.buf = (void *){sums_name}, .size = sizeof {sums_name}}}",
        f"#define BIAS_{step} 0",
        "#else",
    ]
    before = w.constant_bytes
    bias_name = w.data("bias", bias)
    w.constant_bytes = before  # one of both
    w.constants += [
        f"#define CONTEXT_{step} {{.buf = 0, .size = 0}}",
        f"#define BIAS_{step} {bias_name}",
        "#endif",
        f"static const cmsis_nn_context context_{step} = CONTEXT_{step};",
    ]
    per_channel = len(ratios[0]) > 1
    quantization = w.structure(
        "quant_params",
        "quantization",
        **w.quantization(ratios[0], ratios[1], len(ratios[0])),
        is_per_channel=int(per_channel),
    )
    w.call(
        "arm_fully_connected_wrapper_s8",
        f"&context_{step}",
        w.structure("fc_params", "params", **_offsets(x, y), filter_offset=0, **activation(op)),
        quantization,
        w.dims("dims_input", rows, 1, 1, inputs),
        source,
        w.dims("dims_filter", inputs, 1, 1, outputs),
        w.data("weight", np.ascontiguousarray(weight)),
        w.dims("dims_bias", 1, 1, 1, outputs),
        f"BIAS_{step}",
        w.dims("dims_output", rows, 1, 1, outputs),
        target,
        reads=[source],
    )


def _windows(op: Op, x: Value, y: Value) -> ConvolutionWindows:
    kernel = op.tensors["weight"].shape[2:]
    steps = {name: op.attrs[name] for name in ("stride", "padding", "dilation")}
    return ConvolutionWindows(image=x.shape[1:], kernel=kernel, outputs=y.shape[1:], **steps)


def _weight(op: Op) -> NDArray[np.int8]:
    if len(op.inputs) > 1:
        raise NoCallError(op, "adds a residual", "convert.arithmetic=tflm, which adds it apart")
    weight = centred_weight(op)
    if weight.size and not -127 <= weight.min() <= weight.max() <= 127:
        why = f"weights span {weight.min()}..{weight.max()} around their zero point; int8 has ±127"
        raise NoCallError(op, why, "quantizer=symmetric")
    return weight.astype(np.int8)


def _mean_ratio(x: Value, y: Value, size: int) -> list[NDArray[Any]]:
    """Multiplier and shift, the division within; `stages.integer.profiles.tflm.mean` states them."""
    multiplier, shift = (int(part) for part in quantize_multiplier(x.scale / y.scale))
    extra = min(size.bit_length() - 1, 32, 31 + shift)
    return [np.array([(multiplier << extra) // size]), np.array([shift - extra])]


def _ratios(w: CmsisWriter, op: Op, outputs: int) -> dict[str, str]:
    return w.quantization(op.tensors["multiplier"], op.tensors["shift"], outputs)


def _offsets(x: Value, y: Value) -> dict[str, int]:
    return {"input_offset": -x.zero_point, "output_offset": y.zero_point}


def _steps(windows: ConvolutionWindows) -> dict[str, dict[str, int]]:
    return {name: tile(getattr(windows, name)) for name in ("stride", "padding", "dilation")}
