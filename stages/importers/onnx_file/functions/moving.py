"""What moves and selects: shapes, slices, joins, padding, resampling, indices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.functions.reading import NodeModule
from stages.importers.onnx_file.tensors import Array


def _reshape(op: NodeModule, x: Tensor, shape: Array | None = None) -> Tensor:
    """0 keeps a size. A file made for a fixed batch says that batch; it stands for any."""
    sizes = [int(n) for n in reading.given(op, "shape", (shape,), 0) or []]
    if not op.attr("allowzero", 0):
        sizes = [int(x.shape[i]) if n == 0 and i < x.ndim else n for i, n in enumerate(sizes)]
    if min(sizes, default=0) < -1 or sizes.count(-1) > 1:
        raise ValueError(f"shape={sizes}: must be sizes, and -1 at most once")
    own, fixed = op.batch.samples, op.batch.fixed
    if fixed not in (None, own) and sizes and x.shape[0] == own:
        rest = math.prod(sizes)
        if sizes[0] == fixed:
            sizes[0] = own
        elif sizes[0] > 0 and sizes[0] % fixed == 0 and -1 not in sizes and x.numel() != rest:
            sizes[0] = sizes[0] // fixed * own  # samples and what is merged with them
    return x.reshape(sizes)


def _flatten(op: NodeModule, x: Tensor) -> Tensor:
    axis = op.attr("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1:
        return torch.flatten(x, 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _transpose(op: NodeModule, x: Tensor) -> Tensor:
    order = op.attr("perm")
    return x.permute(*(order if order else reversed(range(x.ndim))))


def _squeeze(op: NodeModule, x: Tensor, axes: Array | None = None) -> Tensor:
    chosen = reading.given(op, "axes", (axes,), 0)
    if chosen is None:
        chosen = [i for i, n in enumerate(x.shape) if n == 1 and i > 0]
    for axis in sorted((reading.axis_of(int(a), x.ndim) for a in chosen), reverse=True):
        if x.shape[axis] != 1:
            raise ValueError(f"axis={axis} has {x.shape[axis]} entries: must be 1")
        x = x.squeeze(axis)
    return x


def _unsqueeze(op: NodeModule, x: Tensor, axes: Array | None = None) -> Tensor:
    chosen = [int(a) for a in reading.given(op, "axes", (axes,), 0) or []]
    rank = x.ndim + len(chosen)
    for axis in sorted(reading.axis_of(a, rank) for a in chosen):
        x = x.unsqueeze(axis)
    return x


def _concat(op: NodeModule, *parts: Tensor | Array) -> Tensor:
    like = next((p for p in parts if isinstance(p, Tensor) and p.is_floating_point()), None)
    axis, tensors = op.attr("axis"), [reading.tensor(p, like) for p in parts]
    batch = max(t.shape[0] for t in tensors)
    rank = tensors[0].ndim
    if reading.axis_of(axis, rank) > 0:  # a constant that stands for one sample
        tensors = [t if t.shape[0] == batch else t.expand(batch, *t.shape[1:]) for t in tensors]
    return torch.cat(tensors, axis)


def _split(op: NodeModule, x: Tensor, sizes: Array | None = None) -> Any:
    axis = reading.axis_of(op.attr("axis", 0), x.ndim)
    chosen = reading.given(op, "split", (sizes,), 0)
    if chosen is None:
        count = op.attr("num_outputs") or len(op.node.outputs)
        each = -(-int(x.shape[axis]) // count)
        chosen = [each] * (count - 1) + [int(x.shape[axis]) - each * (count - 1)]
    return torch.split(x, [int(n) for n in chosen], axis)


def _slice(
    op: NodeModule,
    x: Tensor,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Tensor:
    operands = (starts, ends, axes, steps)
    first, last = (reading.given(op, name, operands, i) for i, name in enumerate(("starts", "ends")))
    if first is None or last is None or len(first) != len(last):
        raise ValueError(f"starts {first} and ends {last}: must be as many")
    places = reading.given(op, "axes", operands, 2) or list(range(len(first)))
    strides = reading.given(op, "steps", operands, 3) or [1] * len(first)
    for start, end, place, step in zip(first, last, places, strides, strict=True):
        axis = reading.axis_of(int(place), x.ndim)
        size, whole = int(x.shape[axis]), slice(int(start), int(end), int(step))
        if step == 0:
            raise ValueError("steps: must not be 0")
        chosen = range(size)[whole]
        if axis == 0 and op.batch.whole(size, int(start), int(end), int(step)):
            continue
        if step > 0:
            x = x[(slice(None),) * axis + (slice(chosen.start, chosen.stop, chosen.step),)]
        else:
            x = x.index_select(axis, torch.tensor(list(chosen)))
    return x


def _gather(op: NodeModule, x: Tensor | Array, indices: Tensor | Array) -> Tensor:
    """An embedding, where a table is read by numbers of tokens; a selection by constants of a value."""
    x = reading.tensor(x)
    axis = reading.axis_of(op.attr("axis", 0), x.ndim)
    if isinstance(indices, Tensor):
        if axis != 0:
            raise ValueError(
                "its indices depend on the input's values, along a dimension that is not the first"
            )
        return F.embedding(indices.long(), x) if x.ndim == 2 else x[indices.long()]
    size = int(x.shape[axis])
    places = np.asarray(indices)
    if places.size and not -size <= places.min() <= places.max() < size:
        raise ValueError(f"indices span {places.min()}..{places.max()}: must be within {size} entries")
    places = np.where(places < 0, places + size, places)
    if places.ndim == 0:
        return x.select(axis, int(places))
    selected = x.index_select(axis, torch.tensor(places.reshape(-1).tolist()))
    return selected.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _expand(op: NodeModule, x: Tensor | Array, shape: Array) -> Tensor:
    x, wanted = reading.tensor(x), [int(n) for n in reading.numbers(shape, "shape")]
    rank = max(x.ndim, len(wanted))
    own, wanted = [1] * (rank - x.ndim) + list(x.shape), [1] * (rank - len(wanted)) + wanted
    return x.expand([a if b == 1 else b for a, b in zip(own, wanted, strict=True)])


def _tile(op: NodeModule, x: Tensor, repeats: Array) -> Tensor:
    return x.repeat([int(n) for n in reading.numbers(repeats, "repeats")])


def _pad(
    op: NodeModule,
    x: Tensor,
    pads: Array | None = None,
    value: Array | None = None,
    axes: Array | None = None,
) -> Tensor:
    amounts = [int(n) for n in reading.given(op, "pads", (pads,), 0) or []]
    places = [reading.axis_of(int(a), x.ndim) for a in reading.given(op, "axes", (axes,), 0) or range(x.ndim)]
    if len(amounts) != 2 * len(places):
        raise ValueError(f"pads {amounts} for {len(places)} dimensions")
    before, after = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(places):
        before[axis], after[axis] = amounts[i], amounts[i + len(places)]
    if before[0] or after[0]:
        raise ValueError("pads the batch")
    filling = op.attr("value", 0.0 if value is None else float(np.asarray(value).reshape(-1)[0]))
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}.get(
        op.attr("mode", "constant")
    )
    if mode is None:
        raise ValueError(f"mode={op.attr('mode')}: must be constant, reflect, edge or wrap")
    if mode == "constant":
        return F.pad(x, reading.padding(before[1:], after[1:]), value=filling)
    if any(before[1:2] + after[1:2]) and x.ndim > 2:
        raise ValueError(f"mode={op.attr('mode')} pads channels, which is not read")
    return F.pad(x, reading.padding(before[2:], after[2:]), mode=mode)


def _resize(op: NodeModule, x: Tensor, *operands: Any) -> Tensor:
    """Nearest, linear and cubic, with torch's coordinates: half pixels, aligned corners, or whole factors."""
    if op.node.op == "Upsample" or op.opset < 11:
        scales, sizes = reading.given(op, "scales", operands, 0), None
    else:
        scales = reading.given(op, "scales", operands, 1) or None
        sizes = reading.given(op, "sizes", operands, 2)
    if x.ndim not in (3, 4, 5) or op.attr("axes") not in (None, list(range(2, x.ndim))):
        raise ValueError(f"of {x.ndim} dimensions along {op.attr('axes')}: images are resized")
    given = sizes or scales
    if given is None:
        raise ValueError("has neither scales nor sizes")
    if len(given) == x.ndim:
        if [round(float(n)) for n in given[:2]] != [1, 1] and list(given[:2])[1:] != [int(x.shape[1])]:
            raise ValueError(f"resizes samples or channels: {given}")
        given = given[2:]
    targets = (
        [int(n) for n in given]
        if sizes
        else [math.floor(n * s) for n, s in zip(x.shape[2:], given, strict=True)]
    )
    if max(targets) > 2**16:
        raise ValueError(f"resizes to {targets}")
    mode, default = op.attr("mode", "nearest"), "asymmetric" if op.opset < 11 else "half_pixel"
    place = op.attr("coordinate_transformation_mode", default)
    if op.attr("antialias", 0):
        raise ValueError("antialias=1 is not read")
    if mode == "nearest":
        return _nearest(
            x, targets, place, op.attr("nearest_mode", "floor" if op.opset < 11 else "round_prefer_floor")
        )
    kinds = {("linear", 3): "linear", ("linear", 4): "bilinear", ("cubic", 4): "bicubic"}
    if (mode, x.ndim) not in kinds or place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise ValueError(f"mode={mode} with {place} of {x.ndim} dimensions is not read")
    if mode == "cubic" and op.attr("cubic_coeff_a", -0.75) != -0.75:
        raise ValueError(f"cubic_coeff_a={op.attr('cubic_coeff_a')}: must be -0.75")
    return F.interpolate(x, targets, mode=kinds[mode, x.ndim], align_corners=place == "align_corners")


def nearest_indices(size: int, target: int, place: str, rounding: str) -> list[int]:
    """Which of `size` entries each of `target` takes, as Resize defines it.

    Raises:
        ValueError: a `coordinate_transformation_mode` or `nearest_mode` that is not known.
    """
    i, scale = np.arange(target, dtype=np.float64), target / size
    if place == "asymmetric":
        at = i / scale
    elif place in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        at = (i + 0.5) / scale - 0.5
    elif place == "align_corners":
        at = i * (size - 1) / max(target - 1, 1)
    else:
        raise ValueError(f"coordinate_transformation_mode={place} is not read")
    rounded = {
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
        "floor": np.floor(at),
        "ceil": np.ceil(at),
    }.get(rounding)
    if rounded is None:
        raise ValueError(f"nearest_mode={rounding} is not read")
    indices: list[int] = np.clip(rounded, 0, size - 1).astype(np.int64).tolist()
    return indices


def _nearest(x: Tensor, targets: list[int], place: str, rounding: str) -> Tensor:
    """By the definition, as indices along each dimension; as repetition where that is the same."""
    for axis, target in enumerate(targets, start=2):
        size = int(x.shape[axis])
        indices = nearest_indices(size, target, place, rounding)
        if target % size == 0 and indices == [i // (target // size) for i in range(target)]:
            x = x if target == size else x.repeat_interleave(target // size, dim=axis)
        else:
            x = x.index_select(axis, torch.tensor(indices))
    return x


def _depth_to_space(op: NodeModule, x: Tensor) -> Tensor:
    block, (n, c, h, w) = op.attr("blocksize"), x.shape
    if op.attr("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // block**2, h * block, w * block)


def _space_to_depth(op: NodeModule, x: Tensor) -> Tensor:
    block, (n, c, h, w) = op.attr("blocksize"), x.shape
    y = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * block**2, h // block, w // block)


def _shape(op: NodeModule, x: Tensor | Array) -> Array:
    return np.array([int(n) for n in x.shape], np.int64)[op.attr("start", 0) : op.attr("end")]


FUNCTIONS: Mapping[str, Any] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Shape": _shape,
    "Size": lambda op, x: np.array(math.prod(x.shape), np.int64),
}
