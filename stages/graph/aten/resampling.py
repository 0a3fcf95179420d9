"""Larger images: nearest neighbours, and transposed convolutions as convolutions over spread images.

``conv_transpose(x, w)`` with stride s, padding p and dilation d is ``conv(z, v)`` with stride 1, where z is x
with s − 1 zeros between its rows and columns and ``d(k − 1) − p`` around it (`output_padding` more at the
end), and v is w flipped along both axes, inputs and outputs exchanged. Zeros are exact in integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stages.graph.aten.call import Call, Param, Ref, Translation, pair, params
from stages.graph.aten.chain import Chain
from stages.graph.aten.moving import moved_rows
from stages.graph.aten.rows import as_image, row
from stages.graph.ir import Node


class _Geometry(NamedTuple):
    """Geometry of a transposed convolution, each (height, width)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    output_padding: tuple[int, int]
    dilation: tuple[int, int]


def _upsample(call: Call) -> Node | str:
    before, after = call.input_shape()[1:], call.shape[1:]
    if any(large % small for small, large in zip(before, after, strict=True)):
        return moved_rows(call)
    factors = tuple(large // small for small, large in zip(before, after, strict=True))
    attrs = {"factor": factors if len(factors) == 2 else (1, *factors)}
    return Node(name="", op="upsample_nearest", inputs=(call.value(),), attrs=attrs)


def _upsample1d(call: Call) -> tuple[Node, ...] | Node | str:
    node = _upsample(call)
    return as_image(call, node) if isinstance(node, Node) and node.op == "upsample_nearest" else node


def _conv_transpose2d(call: Call) -> tuple[Node, ...]:
    geometry = _Geometry(
        stride=pair(call.arg(3, "stride", 1)),
        padding=pair(call.arg(4, "padding", 0)),
        output_padding=pair(call.arg(5, "output_padding", 0)),
        dilation=pair(call.arg(7, "dilation", 1)),
    )
    first, *rest = _transposed(call, call.input_shape(), geometry, call.parameter().tensor)
    return replace(first, inputs=(call.value(),)), *rest


def _conv_transpose1d(call: Call) -> tuple[Node, ...]:
    geometry = _Geometry(
        stride=row(call.arg(3, "stride", 1), 1),
        padding=row(call.arg(4, "padding", 0), 0),
        output_padding=row(call.arg(5, "output_padding", 0), 0),
        dilation=row(call.arg(7, "dilation", 1), 1),
    )
    channels, length = call.input_shape()
    return as_image(
        call, *_transposed(call, (channels, 1, length), geometry, call.parameter().tensor[:, :, None])
    )


def _col2im(call: Call) -> tuple[Node, ...]:
    """Windows as columns, (C·kH·kW, windows), back to an image of their sums: a transposed convolution.

    Each entry of a window is a channel, which a kernel of one 1 and zeros puts in its place.
    """
    size, kernel, dilation, padding, stride = (pair(call.args[i]) for i in range(1, 6))
    if len(call.shape) != 3 or not call.input_layout().first:
        raise ValueError("works on windows that are merged with the batch")
    channels, taps = call.shape[0], kernel[0] * kernel[1]
    counts, spare = [], []
    for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True):
        counts.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
        spare.append(n + 2 * p - d * (k - 1) - 1 - (counts[-1] - 1) * s)
    windows = Chain.over(call).reshape((channels * taps, *counts))
    placing = torch.eye(taps).reshape(taps, 1, *kernel).repeat(channels, 1, 1, 1)
    images = replace(
        call,
        args=(
            Ref(windows.name, replace(call.layout, shape=(call.layout.batch, *windows.shape))),
            call.derived(Param("fold", placing), placing),
            None,
            stride,
            padding,
            spare,
            channels,
            dilation,
        ),
        kwargs={},
    )
    return _conv_transpose2d(images)


def _transposed(call: Call, shape: tuple[int, ...], g: _Geometry, weight: Tensor) -> list[Node]:
    """The chain over an image of `shape`; `weight` is (I, O/groups, kH, kW)."""
    groups = int(call.arg(6, "groups", 1))
    chain: list[Node] = []

    def append(op: str, size: list[int], **attrs: Any) -> None:
        chain.append(Node(name="", op=op, attrs=attrs, shape=(channels, *size)))

    channels, *size = shape
    if g.stride != (1, 1):
        size = [s * (n - 1) + 1 for n, s in zip(size, g.stride, strict=True)]
        append("insert_zeros", size, factor=g.stride)
    before = [d * (k - 1) - p for d, k, p in zip(g.dilation, weight.shape[2:], g.padding, strict=True)]
    after = [b + more for b, more in zip(before, g.output_padding, strict=True)]
    padding = (before[0], before[1])
    if before != after or min(before) < 0:
        padding = (0, 0)
        starts = [max(-b, 0) for b in before]
        ends = [n - max(-a, 0) for n, a in zip(size, after, strict=True)]
        if any(starts) or ends != size:
            size = [end - start for start, end in zip(starts, ends, strict=True)]
            append("slice", size, starts=(0, *starts), ends=(channels, *ends), steps=(1, 1, 1))
        pads = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        if any(map(any, pads)):
            size = [b + n + a for n, (b, a) in zip(size, pads, strict=True)]
            append("pad", size, pads=((0, 0), *pads))
    grouped = weight.reshape(groups, channels // groups, *weight.shape[1:]).transpose(1, 2)
    flipped = grouped.reshape(-1, channels // groups, *weight.shape[2:]).flip(2, 3)
    roles = params(weight=call.derived(call.parameter(), flipped), bias=call.arg(2, "bias"))
    append("conv2d", [], stride=(1, 1), padding=padding, dilation=g.dilation, groups=groups)
    return [*chain[:-1], replace(chain[-1], params=roles)]


RESAMPLING: Mapping[str, Translation] = {
    "upsample_nearest2d": _upsample,
    "_upsample_nearest_exact2d": _upsample,
    "upsample_nearest1d": _upsample1d,
    "_upsample_nearest_exact1d": _upsample1d,
    "conv_transpose2d": _conv_transpose2d,
    "conv_transpose1d": _conv_transpose1d,
    "col2im": _col2im,
}
