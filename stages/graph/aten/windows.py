"""Averages over windows of several sizes, maxima of any number, and images of any size.

Each is separable: weights of rows and weights of columns (`stages.graph.operators.resample`). Averages divide
by sizes whose least common multiple makes all weights whole numbers, so that they stay exact. Bilinear and
bicubic weights are rounded to ``2^-11``, rows keeping their sums: over an input of r levels, and k weights a
row and l a column, the result is off by at most ``(k + l) · 2^-12 · r`` levels of the input for bilinear
weights, times 1.6 for bicubic ones, before it is rounded. Factors of 2, 4, 8 are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stages.graph.aten.call import Call, Param, Translation, pair
from stages.graph.aten.chain import Chain
from stages.graph.aten.moving import aten
from stages.graph.aten.rows import row
from stages.graph.ir import Node

GRID = 2**11
"""Steps of weights that are no fractions of small numbers: two of them and 8 bits of levels fit int32."""

MAX_STEPS = 2**11
"""The largest common multiple of the sizes of windows along an axis."""

Windows = Sequence[tuple[int, int, int]]
"""Windows along an axis, each its first entry, its end, and what its sum is divided by."""


def resampled(chain: Chain, call: Call, weights: Sequence[Tensor], steps: Sequence[int]) -> Chain:
    """Append the sums over an image (C, H, W) by weights of rows (H', H) and of columns (W', W)."""
    roles = {}
    for role, weight in zip(("rows", "columns"), weights, strict=True):
        roles[role] = call.derived(Param(f"resample.{role}", weight), weight.float()).key
    shape = (chain.shape[0], len(weights[0]), len(weights[1]))
    return chain.then("resample", shape, params=roles, steps=tuple(steps))


def averages(chain: Chain, call: Call, windows: Sequence[Windows]) -> Chain:
    """Append averages over windows along the height and the width of an image."""
    weights, steps = [], []
    for size, along in zip(chain.shape[1:], windows, strict=True):
        common = math.lcm(*(count for _, _, count in along))
        if common > MAX_STEPS:
            raise ValueError(f"averages over so many sizes of windows that their multiple is {common}")
        weight = torch.zeros(len(along), size)
        for i, (start, end, count) in enumerate(along):
            weight[i, start:end] = 1.0 / count
        weights.append(weight)
        steps.append(common)
    return resampled(chain, call, weights, steps)


def adaptive_windows(size: int, count: int) -> Windows:
    """The windows of an adaptive pool: ⌊i·size/count⌋ to ⌈(i+1)·size/count⌉."""
    bounds = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    return [(start, end, end - start) for start, end in bounds]


def pool_windows(
    size: int, count: int, kernel: int, stride: int, padding: int, *, pads_count: bool
) -> Windows:
    """The windows of an average pool, which divides by what of each lies within the padding, or the image."""
    windows = []
    for i in range(count):
        first = i * stride - padding
        end = min(first + kernel, size + padding)
        start, stop = max(first, 0), min(end, size)
        windows.append((start, stop, end - first if pads_count else stop - start))
    return windows


def _image(call: Call) -> tuple[Chain, Callable[[Chain], Node | str]]:
    """The input as an image (C, H, W), whatever comes before, and the way back to the call's shape."""
    chain = Chain.over(call)
    spatial = 2 if "2d" in call.overload.partition(".")[0] else 1
    lead, sizes = chain.shape[: len(chain.shape) - spatial], chain.shape[len(chain.shape) - spatial :]
    chain.reshape((math.prod(lead), *((1,) if spatial == 1 else ()), *sizes))
    return chain, lambda done: done.reshape(call.shape).result()


def _sizes(value: Any, one: bool, height: int) -> tuple[int, int]:
    """Height and width of a pool's geometry; of a sequence's the height is given."""
    return row(value, height) if one else pair(value)


def adaptive_average(call: Call) -> Node | str:
    """An adaptive average pool of any size."""
    chain, back = _image(call)
    targets = (call.shape[-2], call.shape[-1]) if "2d" in call.overload else (1, call.shape[-1])
    sizes = zip(chain.shape[1:], targets, strict=True)
    return back(averages(chain, call, [adaptive_windows(size, count) for size, count in sizes]))


def adaptive_maximum(call: Call, part: int = 0) -> Node | str:
    """An adaptive maximum pool: windows of one size, which repeat an entry where they are shorter."""
    if part:
        raise ValueError("the places of its maxima have no integer form")
    chain, back = _image(call)
    targets = (call.shape[-2], call.shape[-1]) if "2d" in call.overload else (1, call.shape[-1])
    kernel = []
    for axis, count in enumerate(targets, 1):
        windows = adaptive_windows(chain.shape[axis], count)
        kernel.append(max(end - start for start, end, _ in windows))
        chain.take(axis, [min(start + i, end - 1) for start, end, _ in windows for i in range(kernel[-1])])
    size = (kernel[0], kernel[1])
    chain.then(
        "max_pool2d",
        (chain.shape[0], *targets),
        kernel=size,
        stride=size,
        padding=(0, 0),
        dilation=(1, 1),
        ceil_mode=False,
    )
    return back(chain)


def average(call: Call) -> Node | str:
    """An average pool whose windows have several sizes, or a divisor of their own."""
    chain, back = _image(call)
    one = "1d" in call.overload
    kernel, padding = _sizes(call.args[1], one, 1), _sizes(call.arg(3, "padding", 0), one, 0)
    stride = _sizes(call.arg(2, "stride") or call.args[1], one, 1)
    includes = bool(call.arg(5, "count_include_pad", True))
    divisor = None if one else call.arg(6, "divisor_override")
    counts = (1, call.shape[-1]) if one else call.shape[-2:]
    windows = [
        pool_windows(*of_axis, pads_count=includes)
        for of_axis in zip(chain.shape[1:], counts, kernel, stride, padding, strict=True)
    ]
    if divisor is not None:
        windows = [
            [(s, e, int(d)) for s, e, _ in along] for along, d in zip(windows, (1, divisor), strict=True)
        ]
    return back(averages(chain, call, windows))


def _interpolated(call: Call) -> Node | str:
    """Weights are asked of the operator: it is run on images of which one row, or one column, is 1."""
    chain, back = _image(call)
    height, width = chain.shape[1:]
    one = "1d" in call.overload
    operator = aten(call)
    weights = []
    for axis, size in enumerate((height, width)):
        if one and axis == 0:
            weights.append(torch.ones(1, 1))
            continue
        unit = torch.eye(size)
        if not one:
            unit = (unit[:, :, None] if axis == 0 else unit[:, None]).expand(size, height, width)
        done = operator(unit[None].contiguous(), *call.args[1:], **call.kwargs)[0]
        weights.append(done.T if one else (done[:, :, 0] if axis == 0 else done[:, 0, :]).T)
    return back(resampled(chain, call, weights, [_steps(weight) for weight in weights]))


def _steps(weight: Tensor) -> int:
    """The fewest steps, a power of two, on which all weights lie; else `GRID`."""
    for bits in range(11):
        exact = weight * 2**bits
        if torch.equal(exact, exact.round()):
            return int(2**bits)
    return GRID


WINDOWS: Mapping[str, Translation] = {
    **dict.fromkeys(("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"), _interpolated),
    "_upsample_bilinear2d_aa": _interpolated,
    "_upsample_bicubic2d_aa": _interpolated,
}
