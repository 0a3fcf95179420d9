"""Joining, cutting, padding, permuting and reshaping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stages.graph.aten.batch import Placement
from stages.graph.aten.call import Call, Param, Ref, Translation
from stages.graph.aten.moving import padded, padded_with
from stages.graph.aten.pools import MAXIMA
from stages.graph.ir import Node


def _cat(call: Call) -> Node | str:
    parts = [item for item in call.args[0] if not _empty(item)]
    if len(parts) == 1 and isinstance(parts[0], Ref):
        return parts[0].name
    layouts = [item.layout for item in parts if isinstance(item, Ref)]
    axis = layouts[0].axis(int(call.arg(1, "dim", 0)))
    names = [item.name if isinstance(item, Ref) else _constant_part(call, item, axis) for item in parts]
    return Node(name="", op="concat", inputs=tuple(names), attrs={"axis": axis})


def _empty(item: Any) -> bool:
    """Whether a part has no elements, as optional tokens of which there are none."""
    if isinstance(item, Ref):
        return 0 in item.layout.sample
    return isinstance(item, Param) and item.tensor.numel() == 0


def _constant_part(call: Call, item: Any, axis: int) -> str:
    """A constant that is joined to values, with its own size along the axis."""
    if not isinstance(item, Param):
        raise ValueError("joins what is no tensor")
    dim = axis + (call.layout.alone and axis >= call.layout.dim)
    shape = tuple(item.tensor.shape[dim] if i == axis else n for i, n in enumerate(call.shape))
    return call.emit(call.constant(item, shape))


def _reshape(call: Call) -> Node | str:
    if call.shape == call.input_shape():
        return call.value()
    return Node(name="", op="reshape", inputs=(call.value(),), attrs={"shape": call.shape})


def _pad(call: Call) -> Node | str:
    flat = [int(p) for p in call.args[1]]
    if call.overload.startswith("pad.") and call.arg(2, "mode", "constant") != "constant":
        return padded(call)
    value = call.arg(3, "value", 0) if call.overload.startswith("pad.") else call.arg(2, "value", 0)
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)][::-1]
    traced = call.input_layout()
    whole = ((0, 0),) * (len(traced.shape) - len(pairs)) + tuple(pairs)
    pads = tuple(pair for dim, pair in enumerate(whole) if not (traced.alone and dim == traced.dim))
    return padded_with(call, pads, float(value or 0.0)).result()


def _slice(call: Call) -> Node | str:
    shape = call.input_shape()
    dim, traced = int(call.arg(1, "dim", 0)), call.input_layout()
    start, end, step = call.arg(2, "start"), call.arg(3, "end"), call.arg(4, "step", 1)
    if traced.is_batch(dim) and slice(start, end, step).indices(traced.shape[dim]) == (
        0,
        traced.shape[dim],
        1,
    ):
        return call.value()
    axis = traced.axis(dim)
    start, end, step = slice(start, end, step).indices(shape[axis])
    if (start, end, step) == (0, shape[axis], 1):
        return call.value()
    return _cut(call, axis, start, end, step)


def _cut(call: Call, axis: int, start: int, end: int, step: int = 1) -> Node:
    shape = call.input_shape()
    rank = range(len(shape))
    return Node(
        name="",
        op="slice",
        inputs=(call.value(),),
        attrs={
            "starts": tuple(start if i == axis else 0 for i in rank),
            "ends": tuple(end if i == axis else shape[i] for i in rank),
            "steps": tuple(step if i == axis else 1 for i in rank),
        },
    )


def _select(call: Call, axis: int, index: int) -> tuple[Node, ...]:
    index %= call.input_shape()[axis]
    shape = tuple(1 if i == axis else size for i, size in enumerate(call.input_shape()))
    cut = replace(_cut(call, axis, index, index + 1), shape=shape)
    return cut, Node(name="", op="reshape", attrs={"shape": call.shape})


def _select_int(call: Call) -> tuple[Node, ...]:
    return _select(call, call.axis(call.args[1]), int(call.args[2]))


def _split(call: Call, part: int) -> Node:
    axis = call.axis(call.arg(2, "dim", 0))
    sizes = call.args[1]
    start = sum(sizes[:part]) if isinstance(sizes, tuple) else part * int(sizes)
    return _cut(call, axis, start, start + call.shape[axis])


def _chunk(call: Call, part: int) -> Node:
    axis = call.axis(call.arg(2, "dim", 0))
    start = part * -(-call.input_shape()[axis] // int(call.args[1]))
    return _cut(call, axis, start, start + call.shape[axis])


def _unbind(call: Call, part: int) -> tuple[Node, ...]:
    return _select(call, call.axis(call.arg(1, "dim", 0)), part)


def _permute(call: Call) -> Node | str:
    return _permuted(call, [int(dim) for dim in call.args[1]])


def _transpose(call: Call) -> Node | str:
    dims = list(range(len(call.layout.shape)))
    a, b = (int(dim) for dim in call.args[1:3])
    dims[a], dims[b] = dims[b], dims[a]
    return _permuted(call, dims)


def _permuted(call: Call, dims: Sequence[int]) -> Node | str:
    """Dimensions of the trace in another order: of a sample's, the batch's left out where it is alone."""
    traced = call.input_layout()
    own = [dim for dim in dims if not (traced.alone and traced.is_batch(dim))]
    axes = tuple(_axis(traced, dim) for dim in own)
    if axes == tuple(range(len(axes))):
        return call.value()
    return Node(name="", op="permute", inputs=(call.value(),), attrs={"axes": axes})


def _axis(traced: Placement, dim: int) -> int:
    """The axis of a sample; that of what is merged with the batch, where the dimension holds it."""
    return traced.dim if traced.is_batch(dim) else traced.axis(dim)


RESHAPES = frozenset(
    {
        "flatten",
        "view",
        "reshape",
        "squeeze",
        "unsqueeze",
        "unflatten",
        "_unsafe_view",
        "view_as",
        "reshape_as",
    }
)
"""Operators that leave values in their order."""

PARTS: Mapping[str, Callable[[Call, int], Node | str | tuple[Node, ...]]] = {
    "chunk": _chunk,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
    **MAXIMA,
}
"""Operators that give several values, each translated on its own: from the call, with the part's shape."""

SHAPES: Mapping[str, Translation] = {
    "cat": _cat,
    "concat": _cat,
    **dict.fromkeys(RESHAPES, _reshape),
    "permute": _permute,
    "transpose": _transpose,
    "select": _select_int,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "slice": _slice,
}
