"""Windows over images (N, C, H, W): their number, padding, and the image as each tap of a window sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from stages.integer.program import Integers, Op
from stages.integer.signature import Shape


def window_shape(op: Op, shape: Shape, kernel: Sequence[int]) -> tuple[int, int]:
    """How many windows of `op` there are along the height and the width of (C, H, W)."""
    if len(shape) != 3:
        raise ValueError(f"input of shape {shape}: must be (C, H, W)")
    sizes = zip(
        shape[1:],
        kernel,
        op.attrs["stride"],
        op.attrs["padding"],
        op.attrs.get("dilation", (1, 1)),
        strict=True,
    )
    height, width = (_windows(*of_axis, ceil=op.attrs.get("ceil_mode", False)) for of_axis in sizes)
    return height, width


def pooled_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The output's shape of a pool: (C, H', W')."""
    kernel, padding = op.attrs["kernel"], op.attrs["padding"]
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"padding={padding}: must be at most half of kernel={kernel}")
    return (shapes[0][0], *window_shape(op, shapes[0], kernel))


def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil: bool) -> int:
    reach = dilation * (kernel - 1) + 1
    room = size + 2 * padding - reach
    if room < 0:
        raise ValueError(f"a window of {reach} does not fit in {size} with padding={padding}")
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - ((count - 1) * stride >= size + padding)  # none begins in the padding after the image


def pad_image(q: Integers, padding: Sequence[int], value: int, reach: Sequence[int] = (0, 0)) -> Integers:
    """`q` with ``padding`` rows and columns of `value` on each side, and more at the end up to `reach`.

    Keeps the memory order of `q`; returns `q` itself where there is nothing to add.
    """
    pads = [(0, 0), (0, 0)]
    for size, before, least in zip(q.shape[2:], padding, reach, strict=True):
        pads.append((before, max(before, least - size - before)))
    return pad(q, pads, value)


def pad(q: Integers, pads: Sequence[tuple[int, int]], value: int) -> Integers:
    """`q` with ``(before, after)`` entries of `value` along each dimension, in the memory order of `q`."""
    if not any(before or after for before, after in pads):
        return q
    shape = [before + size + after for size, (before, after) in zip(q.shape, pads, strict=True)]
    padded = np.full_like(q, value, shape=shape)
    padded[tuple(slice(b, b + size) for size, (b, _) in zip(q.shape, pads, strict=True))] = q
    return padded


def shifted_images(
    padded: Integers,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    out: Sequence[int],
) -> Iterator[Integers]:
    """For each tap of the window, the view (N, C, H', W') of the entries that it meets."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            bottom, right = top + (out[0] - 1) * stride[0] + 1, left + (out[1] - 1) * stride[1] + 1
            yield padded[:, :, top : bottom : stride[0], left : right : stride[1]]
