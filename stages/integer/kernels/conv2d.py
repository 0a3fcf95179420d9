"""conv2d: ``y = clamp(zy + rescale(Σ (qx−zx)(qw−zw) + bias [+ residual]))`` over (N, C, H, W).

The accumulator, sum of products and bias, is int32. A residual is rescaled as it is, to steps of
``scale_y / 2^headroom``; the two terms are added and rounded once: ``zy + rdp(rescale(acc) +
rescale(qr−zr))``.

Samples go through in blocks that stay in cache. In a block the channel comes first, (C, n, H, W), so that a
layer is one matrix product for all its samples and what differs from channel to channel differs from row to
row. Padding is zero once ``zx`` is subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from stages.integer.accumulate import blocks, exact_float, layer_output
from stages.integer.bounds import centred_weight
from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature
from stages.integer.windows import window_shape

Floats = NDArray[Any]


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(O, H', W')."""
    weight, groups = op.tensors["weight"].shape, op.attrs["groups"]
    channels = shapes[0][0]
    if len(weight) != 4 or weight[1] * groups != channels or weight[0] % groups:
        raise ValueError(
            f"weight of shape {weight} with groups={groups} for {channels} channels: "
            "must be (O, channels/groups, kH, kW), with groups a divisor of O"
        )
    return (weight[0], *window_shape(op, shapes[0], weight[2:]))


SIGNATURE = Signature(
    inputs=(1, 2),
    attrs=("stride", "padding", "dilation", "groups"),
    ratios="channel",
    layer=True,
    stream=True,
    shape=output_shape,
)


def prepare(op: Op, program: Program) -> Kernel:
    """A product of matrices for each group; a sum over the kernel's taps where groups have one channel."""
    weight = centred_weight(op).astype(exact_float(op, program))
    return convolution(op, program, weight, layer_output(op, program))


def convolution(op: Op, program: Program, weight: Floats, output: Callable[..., Integers]) -> Kernel:
    """Sums ``Σ (qx−zx) w`` in the float type of `weight`, (O, L) a block, and what `output` makes of them."""
    x, y, dtype = program.values[op.inputs[0]], program.values[op.output], weight.dtype
    (pad_h, pad_w), groups = op.attrs["padding"], op.attrs["groups"]
    channels, height, width = x.shape
    rows, row_length = height + 2 * pad_h, width + 2 * pad_w
    depthwise = groups > 1 and weight.shape[1] == 1
    sums = _depthwise_sums(op, weight, y.shape) if depthwise else _gemm_sums(op, weight, y.shape)

    taps = 2 if depthwise else weight[0, 0].size
    positions = rows * row_length if depthwise else y.shape[1] * y.shape[2]
    bytes_each = dtype.itemsize * positions * (channels * taps + 4 * y.shape[0])

    def run(q: Integers, *residual: Integers) -> Integers:
        result = np.empty((len(q), *y.shape), y.dtype)
        for block in blocks(len(q), bytes_each):
            n = block.stop - block.start
            padded = np.zeros((channels, n, rows, row_length), dtype)
            inner = padded[:, :, pad_h : pad_h + height, pad_w : pad_w + width]
            inner[...] = q[block].swapaxes(0, 1)
            inner -= x.zero_point
            others = (r[block].swapaxes(0, 1).reshape(y.shape[0], -1) for r in residual)
            levels = output(sums(padded), *others)
            result[block] = levels.reshape(y.shape[0], n, *y.shape[1:]).swapaxes(0, 1)
        return result

    return run


def _windows(op: Op, padded: Floats, kernel: tuple[int, int], out: tuple[int, int]) -> Floats:
    """A view (C, kH, kW, n, H', W') of (C, n, H, W): what each tap of the kernel meets at each output."""
    (stride_h, stride_w), (dilation_h, dilation_w) = op.attrs["stride"], op.attrs["dilation"]
    channel, sample, row, column = padded.strides
    return as_strided(
        padded,
        (padded.shape[0], *kernel, padded.shape[1], *out),
        (channel, row * dilation_h, column * dilation_w, sample, row * stride_h, column * stride_w),
        writeable=False,
    )


def _gemm_sums(op: Op, weight: Floats, shape: tuple[int, ...]) -> Callable[[Floats], Floats]:
    """(G, O/G, K) @ (G, K, L), K = C/G · kH · kW and L = n · H' · W'."""
    groups = op.attrs["groups"]
    matrices = weight.reshape(groups, weight.shape[0] // groups, -1)
    kernel, out = (weight.shape[2], weight.shape[3]), (shape[1], shape[2])

    def sums(padded: Floats) -> Floats:
        columns = _windows(op, padded, kernel, out).reshape(groups, matrices.shape[2], -1)
        products: Floats = np.matmul(matrices, columns)
        return products.reshape(weight.shape[0], -1)

    return sums


def _depthwise_sums(op: Op, weight: Floats, shape: tuple[int, ...]) -> Callable[[Floats], Floats]:
    """A tap of the kernel is a shift of the flattened image, so that loops run over whole blocks.

    Positions between rows, between samples and between strides are computed too, and left out at the end.
    """
    (stride_h, stride_w), (dilation_h, dilation_w) = op.attrs["stride"], op.attrs["dilation"]
    multiplier = weight.shape[0] // op.attrs["groups"]
    taps = [(i, j) for i in range(weight.shape[2]) for j in range(weight.shape[3])]

    def sums(padded: Floats) -> Floats:
        channels, n, rows, row_length = padded.shape
        flat = padded.reshape(channels, 1, -1)
        shifts = [i * dilation_h * row_length + j * dilation_w for i, j in taps]
        length = flat.shape[2] - max(shifts)
        total = np.zeros((channels, multiplier, flat.shape[2]), padded.dtype)
        term = np.empty((channels, multiplier, length), padded.dtype)
        for (i, j), shift in zip(taps, shifts, strict=True):
            factor = weight[:, 0, i, j].reshape(channels, multiplier, 1)
            np.multiply(flat[:, :, shift : shift + length], factor, out=term)
            total[:, :, :length] += term
        image = total.reshape(channels * multiplier, n, rows, row_length)
        used = image[:, :, : stride_h * shape[1] : stride_h, : stride_w * shape[2] : stride_w]
        return used.reshape(channels * multiplier, -1)

    return sums
