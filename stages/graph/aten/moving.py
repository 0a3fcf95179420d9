"""Selecting, repeating and reordering values by indices that are known: chains of `take`.

What an operator moves along one axis it is asked itself: run on a tensor of that axis' indices, it gives the
index that each entry of its result comes from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stages.graph.aten.call import Call, Param, SampleNumbers, Translation, pair
from stages.graph.aten.casts import CASTS
from stages.graph.aten.chain import Chain
from stages.graph.ir import Node

Result = Node | str


def aten(call: Call) -> Any:
    """The operator of torch that a call is of, its overload among them."""
    base, _, overload = call.overload.partition(".")
    return getattr(getattr(torch.ops.aten, base), overload or "default")


def _by_itself(call: Call, spatial: int) -> Result:
    """Ask the operator which rows and columns it moves; of the last `spatial` dimensions."""
    chain = Chain.over(call)
    first = len(chain.shape) - spatial
    sizes = chain.shape[first:]
    for axis, size in enumerate(sizes):
        shape = [size if i == axis else 1 for i in range(spatial)]
        indices = torch.arange(size, dtype=torch.float32).reshape(shape).expand(sizes)[None, None]
        moved = aten(call)(indices.contiguous(), *call.args[1:], **call.kwargs)[0, 0]
        chosen = moved.movedim(axis, 0).flatten(1)[:, 0] if spatial > 1 else moved
        chain.take(first + axis, chosen.long().tolist())
    return chain.result()


def moved_rows(call: Call) -> Result:
    """Nearest neighbours, in all dimensions behind the channels."""
    return _by_itself(call, len(call.input_shape()) - 1)


def padded(call: Call) -> Result:
    """Padding by reflection, replication or around; the pads say how many dimensions it works on."""
    return _by_itself(call, len(call.args[1]) // 2)


def padded_with(call: Call, pads: Sequence[tuple[int, int]], number: float) -> Chain:
    """A value with a number around it: zeros are padding, others are joined; negative pads cut off."""
    if not math.isfinite(number):
        raise ValueError(f"pads with {number:g}; only a finite number has an integer form")
    chain = Chain.over(call)
    starts = [max(-before, 0) for before, _ in pads]
    ends = [size - max(-after, 0) for size, (_, after) in zip(chain.shape, pads, strict=True)]
    if any(starts) or ends != list(chain.shape):
        kept = [end - start for start, end in zip(starts, ends, strict=True)]
        chain.then("slice", kept, starts=tuple(starts), ends=tuple(ends), steps=(1,) * len(kept))
    around = tuple((max(before, 0), max(after, 0)) for before, after in pads)
    if number == 0.0 and any(map(any, around)):
        sizes = [b + size + a for size, (b, a) in zip(chain.shape, around, strict=True)]
        return chain.then("pad", sizes, pads=around)
    for axis, (before, after) in enumerate(around if number else ()):
        parts = [chain.name]
        for count, place in ((before, 0), (after, len(parts) + bool(before))):
            if count:
                own = torch.full((*chain.shape[:axis], count, *chain.shape[axis + 1 :]), number)
                param = call.derived(Param("padding", own), own)
                parts.insert(place, call.emit(call.constant(param, tuple(own.shape))))
        if before or after:
            shape = (*chain.shape[:axis], before + chain.shape[axis] + after, *chain.shape[axis + 1 :])
            chain = Chain(call, parts[0], shape).then("concat", shape, *parts[1:], axis=axis)
    return chain


def _index_select(call: Call) -> Result:
    axis = call.axis(call.args[1])
    return Chain.over(call).take(axis, _indices(call.args[2], call.input_shape()[axis])).result()


def _indices(argument: Any, size: int) -> list[int]:
    """Constant indices, negative ones counted from the end, in a row."""
    if not isinstance(argument, Param):
        raise ValueError("its indices are computed; only constant ones have an integer form")
    chosen: list[int] = (argument.tensor.long().flatten() % size).tolist()
    return chosen


def _index(call: Call) -> Result | tuple[Node, ...]:
    """``x[:, i]``, ``x[:, i, j]``: constant indices of one axis, or of axes beside each other."""
    if any(isinstance(item, SampleNumbers) for item in call.args[1]):
        return CASTS["index"](call)
    given = {dim: item for dim, item in enumerate(call.args[1]) if item is not None}
    if any(not isinstance(item, Param) for item in given.values()):
        raise ValueError("its indices are computed; only constant ones have an integer form")
    dims = list(given)
    if not dims or dims != list(range(dims[0], dims[0] + len(dims))):
        raise ValueError("indexes axes that do not lie beside each other")
    axes = [call.axis(dim) for dim in dims]
    tensors: list[Tensor] = []
    for item in given.values():
        tensors += item.tensor.nonzero(as_tuple=True) if item.tensor.dtype == torch.bool else [item.tensor]
    axes = list(range(axes[0], axes[0] + len(tensors)))
    shape = call.input_shape()
    first, last = axes[0], axes[-1] + 1
    sizes = shape[first:last]
    flat = torch.zeros((), dtype=torch.int64)
    for tensor, size in zip(tensors, sizes, strict=True):
        flat = flat * size + tensor.long() % size
    chain = Chain.over(call).reshape((*shape[:first], math.prod(sizes), *shape[last:]))
    return chain.take(first, flat.flatten().tolist()).reshape(call.shape).result()


def _flip(call: Call) -> Result:
    chain = Chain.over(call)
    for axis in (call.axis(dim) for dim in call.args[1]):
        chain.take(axis, range(chain.shape[axis])[::-1])
    return chain.result()


def _roll(call: Call) -> Result:
    shifts, dims = (_row(call.arg(i, name, ())) for i, name in ((1, "shifts"), (2, "dims")))
    if len(shifts) != len(dims):
        raise ValueError("rolls all dimensions as one, the batch among them; name them")
    chain = Chain.over(call)
    for shift, axis in zip(shifts, (call.axis(dim) for dim in dims), strict=True):
        size = chain.shape[axis]
        chain.take(axis, [(i - shift) % size for i in range(size)])
    return chain.result()


def _row(value: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, tuple | list) else (int(value),)


def _repeat(call: Call) -> Result:
    """Whole copies along each axis; their numbers follow from the shapes."""
    chain = Chain.over(call)
    if call.layout.alone != call.input_layout().alone:
        raise ValueError("repeats the batch")
    chain.reshape((*[1] * (len(call.shape) - len(chain.shape)), *chain.shape))
    for axis, (own, size) in enumerate(zip(chain.shape, call.shape, strict=True)):
        if own == 0 or size % own:
            raise ValueError(f"repeats {chain.shape} to {call.shape}, which mixes dimensions")
        chain.take(axis, list(range(own)) * (size // own))
    return chain.result()


def _repeat_interleave(call: Call) -> Result:
    repeats, dim = call.args[1], call.arg(2, "dim")
    if dim is None:
        raise ValueError("repeats all dimensions as one, the batch among them; name one")
    traced = call.input_layout()
    if traced.is_batch(dim) and traced.alone and not isinstance(repeats, Param):
        if int(repeats) == 1:
            return call.value()
        chain = Chain.over(call)  # a sample's repetitions lie side by side
        chain.reshape((*chain.shape[: traced.dim], 1, *chain.shape[traced.dim :]))
        return chain.expand(call.shape).result()
    axis = call.axis(dim)
    size = call.input_shape()[axis]
    counts = repeats.tensor.long() if isinstance(repeats, Param) else torch.tensor(int(repeats))
    chosen = torch.arange(size).repeat_interleave(counts.expand(size))
    return Chain.over(call).take(axis, chosen.tolist()).result()


def _expand(call: Call) -> Result:
    if isinstance(argument := call.args[0], Param):  # a class token: one for each sample
        return call.constant(argument, call.shape)
    return Chain.over(call).expand(call.shape).result()


def _copy(call: Call) -> Result:
    """What is written over a whole value, repeated to its shape."""
    if isinstance(call.args[1], Param):
        return call.constant(call.args[1], call.shape)
    if not call.dtype.is_floating_point and call.input_dtype(1).is_floating_point:
        raise ValueError("is cast to whole numbers")
    return Chain.over(call, 1).expand(call.shape).result()


def _stack(call: Call) -> Result:
    """A concatenation along the axis, in which the new one then lies."""
    axis = call.layout.axis(int(call.arg(1, "dim", 0)))
    shape, count = (*call.shape[:axis], *call.shape[axis + 1 :]), len(call.args[0])
    names = []
    for item in call.args[0]:
        if isinstance(item, Param):
            one = call.derived(item, item.tensor.reshape(shape))
            names.append(call.emit(call.constant(one, shape)))
        else:
            names.append(item.name)
    if not shape:
        raise ValueError("joins numbers, which have no dimension to join along")
    behind = axis == len(shape)
    at = axis - behind
    joined = (*shape[:at], count * shape[at], *shape[at + 1 :])
    chain = Chain(call, names[0], shape).then("concat", joined, *names[1:], axis=at)
    chain.reshape((*shape[:at], count, *shape[at:]))
    if behind:
        rank = len(shape)
        chain.permute((*range(rank - 1), rank, rank - 1))
    return chain.result()


def _channel_shuffle(call: Call) -> Result:
    channels, *rest = call.input_shape()
    groups = int(call.args[1])
    chain = Chain.over(call).reshape((groups, channels // groups, *rest))
    return chain.permute((1, 0, *range(2, len(chain.shape)))).reshape(call.shape).result()


def _pixel_shuffle(call: Call) -> Result:
    """(…, C·r², H, W) to (…, C, r·H, r·W)."""
    r, (*lead, channels, height, width) = int(call.args[1]), call.input_shape()
    n = len(lead)
    chain = Chain.over(call).reshape((*lead, channels // r**2, r, r, height, width))
    chain.permute((*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return chain.reshape(call.shape).result()


def _pixel_unshuffle(call: Call) -> Result:
    """(…, C, r·H, r·W) to (…, C·r², H, W)."""
    r, (*lead, channels, height, width) = int(call.args[1]), call.input_shape()
    n = len(lead)
    chain = Chain.over(call).reshape((*lead, channels, height // r, r, width // r, r))
    chain.permute((*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return chain.reshape(call.shape).result()


def _im2col(call: Call) -> Result:
    """Windows as columns: (C, H, W) to (C·kH·kW, windows)."""
    kernel, dilation, padding, stride = (
        pair(call.arg(i, name)) for i, name in enumerate(("kernel_size", "dilation", "padding", "stride"), 1)
    )
    chain = Chain.over(call)
    channels, *sizes = chain.shape
    if any(padding):
        sizes = [size + 2 * p for size, p in zip(sizes, padding, strict=True)]
        chain.then("pad", (channels, *sizes), pads=((0, 0), *((p, p) for p in padding)))
    counts = []
    for axis, (size, k, d, s) in enumerate(zip(sizes, kernel, dilation, stride, strict=True), 1):
        counts.append((size - d * (k - 1) - 1) // s + 1)
        chain.take(axis, [i * s + tap * d for tap in range(k) for i in range(counts[-1])])
    chain.reshape((channels, kernel[0], counts[0], kernel[1], counts[1]))
    return chain.permute((0, 1, 3, 2, 4)).reshape(call.shape).result()


def _unfold(call: Call) -> Result:
    """``x.unfold(dim, size, step)``: windows along an axis, their entries in a dimension at the end."""
    axis, size, step = call.axis(call.args[1]), int(call.args[2]), int(call.args[3])
    chain = Chain.over(call)
    before, after = chain.shape[:axis], chain.shape[axis + 1 :]
    count = (chain.shape[axis] - size) // step + 1
    chain.take(axis, [i * step + j for i in range(count) for j in range(size)])
    chain.reshape((*before, count, size, *after))
    order: Sequence[int] = [i for i in range(len(chain.shape)) if i != axis + 1]
    return chain.permute((*order, axis + 1)).result()


MOVING: Mapping[str, Translation] = {
    **dict.fromkeys((f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)), padded),
    "_pad_circular": padded,
    "upsample_nearest3d": moved_rows,
    "_upsample_nearest_exact3d": moved_rows,
    "index_select": _index_select,
    "index": _index,
    "flip": _flip,
    "roll": _roll,
    "repeat": _repeat,
    "tile": _repeat,
    "repeat_interleave": _repeat_interleave,
    "expand": _expand,
    "expand_as": _expand,
    "broadcast_to": _expand,
    "copy": _copy,
    "stack": _stack,
    "channel_shuffle": _channel_shuffle,
    "native_channel_shuffle": _channel_shuffle,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "im2col": _im2col,
    "unfold": _unfold,
}
