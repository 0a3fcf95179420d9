"""Padding, maxima over windows and along dimensions, resized images."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.functions.moving import nearest_indices
from stages.importers.onnx_file.quantized.finishing import offset
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.handlers.shapes import Move, moving
from stages.importers.onnx_file.quantized.operands import (
    numbers,
    reduced,
    window,
)
from stages.importers.onnx_file.quantized.states import (
    Padded,
    Real,
    State,
    StoredLevels,
    ValueDraft,
)
from stages.importers.onnx_file.reading import OnnxNode


def _pad(own: Quantized, node: OnnxNode) -> State:
    """Zeros around a sample; the least level around it, for a maximum."""
    state, rank = own.state(node, 0), 0
    amounts, axes = numbers(own, node, "pads", 1), numbers(own, node, "axes", 3)
    if (
        not isinstance(state, StoredLevels | Real)
        or amounts is None
        or node.attrs.get("mode", "constant") != "constant"
    ):
        raise ValueError("pads what is not quantized, or by a mode that is not read. Remedy: mode=constant")
    x = state.value
    rank = len(x.shape) + 1
    places = [reading.axis_of(a, rank) for a in axes] if axes else list(range(rank))
    if len(amounts) != 2 * len(places) or min(amounts) < 0:
        raise ValueError(f"pads={amounts} of {rank} dimensions: must be as many pairs, not negative")
    pads = [(0, 0)] * rank
    for i, axis in enumerate(places):
        pads[axis] = (amounts[i], amounts[i + len(places)])
    if any(pads[0]):
        raise ValueError("pads the batch")
    value = own.array(node, 2, "the padding")
    level = node.attrs.get("value", 0.0) if value is None else float(value.reshape(-1)[0])
    shape = [b + n + a for n, (b, a) in zip(x.shape, pads[1:], strict=True)]
    if not any(map(any, pads)):
        return state
    if isinstance(state, Real) and level != 0.0:
        raise ValueError(f"pads with {level}: must be 0. Remedy: a network that pads with zeros")
    if isinstance(state, StoredLevels) and level != x.own.zero_point:
        before, after = zip(*pads[1:], strict=True)
        if len(x.shape) == 3 and (before[0], after[0]) == (0, 0) and level <= _least(own, x):
            return Padded(x, tuple(before), tuple(after))
        if x.own.zero_point is not None:
            raise ValueError(f"pads with level {level:g}: must be the zero point {x.own.zero_point}")
        x.own.zero_point = int(level)
    moved = own.moved(node, x, "pad", shape, pads=tuple(pads[1:]))
    return StoredLevels(moved) if isinstance(state, StoredLevels) else Real(moved, state.factor)


def _least(own: Quantized, x: ValueDraft) -> int:
    """The least level that a value takes, as stored."""
    op = own.ops.get(x.name)
    low = own.said.get("values", {}).get(x.name, (0.0, 0, np.iinfo(x.dtype).min, 0))[2]
    return max(int(low) + offset(x, low), np.iinfo(x.dtype).min if op is None else op.low)


def _max_pool(own: Quantized, node: OnnxNode) -> State:
    state = own.state(node, 0)
    if isinstance(state, StoredLevels) and own.reads[node.inputs[0]] == 1:
        state = _padding_of(own, state)
    if not isinstance(state, Padded):
        result: State = moving(_pool)(own, node)
        return result
    return StoredLevels(_pooled(own, node, state.value, list(state.before[1:]), list(state.after[1:])))


def _padding_of(own: Quantized, state: StoredLevels) -> StoredLevels | Padded:
    """Zeros around an image, where zero is the least level: what a maximum pads with."""
    op = own.ops.get(state.value.name)
    if op is None or op.op != "pad":
        return state
    x, pads = op.inputs[0], op.pending.attrs["pads"]
    if x.own.zero_point is None or x.own.zero_point > _least(own, x) or pads[0] != (0, 0):
        return state
    before, after = zip(*pads, strict=True)
    return Padded(x, tuple(before), tuple(after))


def _pool(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    _, _, before, after = window(node, x, node.attrs.get("kernel_shape", ()))
    return _pooled(own, node, x, before, after)


def _pooled(own: Quantized, node: OnnxNode, x: ValueDraft, before: list[int], after: list[int]) -> ValueDraft:
    kernel = list(node.attrs.get("kernel_shape", ()))
    if len(kernel) != 2 or len(x.shape) != 3:
        raise ValueError(f"a window of {len(kernel)} dimensions: images are read, (N, C, H, W)")
    strides, dilations, _, _ = window(node, x, kernel)
    ceil = bool(node.attrs.get("ceil_mode", 0))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    rooms = [n + b + a - r for n, b, a, r in zip(x.shape[1:], before, after, reach, strict=True)]
    if min(rooms) < 0:
        raise ValueError(f"a window of {reach} does not fit in {list(x.shape[1:])}")
    size = [-(-r // s) + 1 if ceil else r // s + 1 for r, s in zip(rooms, strides, strict=True)]
    for ceiling in (False, True):
        # the kernel pads as much behind as before, and with ceil_mode as far as the last window reaches
        own_size = []
        for n, b, r, s in zip(x.shape[1:], before, reach, strides, strict=True):
            room = n + 2 * b - r
            count = (-(-room // s) if ceiling else room // s) + 1
            own_size.append(count - (ceiling and (count - 1) * s >= n + b))
        if own_size == size and all(2 * b <= k for b, k in zip(before, kernel, strict=True)):
            attrs = {
                "kernel": tuple(kernel),
                "stride": tuple(strides),
                "padding": tuple(before),
                "dilation": tuple(dilations),
                "ceil_mode": ceiling,
            }
            return own.moved(node, x, "max_pool2d", (x.shape[0], *size), **attrs)
    raise ValueError(
        f"pads {before} before and {after} after: no such pool in integers. Remedy: equal padding"
    )


def _resize(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    """Nearest, to whole multiples or by constant indices."""
    old = node.op == "Upsample" or own.graph.opset < 11
    scales = node.attrs.get("scales") or own.array(node, 1 if old else 2, "scales")
    sizes = None if old else own.array(node, 3, "sizes")
    given = [
        float(n)
        for n in (sizes if sizes is not None and sizes.size else scales if scales is not None else [])
    ]
    if len(x.shape) != 3 or len(given) != 4 or node.attrs.get("mode", "nearest") != "nearest":
        raise ValueError("resizes by another mode than nearest, or no images. Remedy: mode=nearest")
    whole = sizes is not None and sizes.size > 0
    target = [
        int(n) if whole else math.floor(n * size) for n, size in zip(given[2:], x.shape[1:], strict=True)
    ]
    place = node.attrs.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = node.attrs.get("nearest_mode", "floor" if old else "round_prefer_floor")
    both = list(zip(x.shape[1:], target, strict=True))
    indices = [nearest_indices(n, t, place, rounding) for n, t in both]
    if all(
        t % n == 0 and own_ == [i // (t // n) for i in range(t)]
        for (n, t), own_ in zip(both, indices, strict=True)
    ):
        factor = tuple(t // n for n, t in both)
        return own.moved(node, x, "upsample_nearest", (x.shape[0], *target), factor=factor)
    for axis, chosen in enumerate(indices, start=1):
        shape = [len(chosen) if i == axis else n for i, n in enumerate(x.shape)]
        x = own.moved(node, x, "take", shape, axis=axis, indices=tuple(chosen))
    return x


def _extreme(op: str) -> Move:
    def move(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
        axes, keep = reduced(own, node, x), bool(node.attrs.get("keepdims", 1))
        shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
        return own.moved(node, x, op, shape, axes=axes, keepdim=keep)

    return move


HANDLERS: Mapping[str, Handler] = {
    "Pad": _pad,
    "MaxPool": _max_pool,
    "Resize": moving(_resize),
    "Upsample": moving(_resize),
    "ReduceMax": moving(_extreme("amax")),
    "ReduceMin": moving(_extreme("amin")),
}
