"""Joining, cutting, padding, permuting and reshaping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from stages.graph.aten.call import Call, Param, Ref, Translation
from stages.graph.ir import Node


def _cat(call: Call) -> Node:
    if any(not isinstance(item, Ref) for item in call.args[0]):
        raise ValueError("joins a constant; only values of the network can be joined")
    axis = int(call.arg(1, "dim", 0)) % (len(call.shape) + 1)
    if axis == 0:
        raise ValueError("joins along the batch dimension")
    return Node(
        name="",
        op="concat",
        inputs=tuple(item.name for item in call.args[0]),
        attrs={"axis": axis - 1},
    )


def _reshape(call: Call) -> Node | str:
    if call.shape == call.input_shape():
        return call.value()
    return Node(name="", op="reshape", inputs=(call.value(),), attrs={"shape": call.shape})


def _pad(call: Call) -> Node | str:
    flat = [int(p) for p in call.args[1]]
    if call.kwargs.get("mode", call.arg(2, "mode", "constant")) not in ("constant", 0, 0.0):
        raise ValueError("only padding with zeros has an integer kernel")
    value = call.arg(3, "value", 0) if call.overload.startswith("pad.") else call.arg(2, "value", 0)
    if value not in (None, 0, 0.0) or min(flat, default=0) < 0:
        raise ValueError(
            f"pads {flat} with {value}; only non-negative padding with zeros has an integer kernel"
        )
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)][::-1]
    rank = len(call.shape)
    if len(pairs) > rank:
        raise ValueError("pads the batch dimension")
    pads = ((0, 0),) * (rank - len(pairs)) + tuple(pairs)
    if not any(a or b for a, b in pads):
        return call.value()
    return Node(name="", op="pad", inputs=(call.value(),), attrs={"pads": pads})


def _slice(call: Call) -> Node | str:
    shape = call.input_shape()
    axis = int(call.arg(1, "dim", 0)) % (len(shape) + 1)
    start, end, step = call.arg(2, "start"), call.arg(3, "end"), call.arg(4, "step", 1)
    if axis == 0:
        if (start or 0) == 0 and (end is None or end > 2**62) and step == 1:
            return call.value()
        raise ValueError("slices the batch dimension")
    axis -= 1
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


def _permute(call: Call) -> Node:
    dims = [int(dim) % (len(call.shape) + 1) for dim in call.args[1]]
    if dims[0] != 0:
        raise ValueError("moves the batch dimension; it must stay the first")
    return _permuted(call, tuple(dim - 1 for dim in dims[1:]))


def _transpose(call: Call) -> Node:
    a, b = call.axis(call.args[1]), call.axis(call.args[2])
    exchanged = {a: b, b: a}
    return _permuted(call, tuple(exchanged.get(i, i) for i in range(len(call.shape))))


def _permuted(call: Call, axes: tuple[int, ...]) -> Node:
    return Node(name="", op="permute", inputs=(call.value(),), attrs={"axes": axes})


def _expand(call: Call) -> Node | str:
    if isinstance(call.args[0], Param):  # a class token: one for each sample
        return call.constant(call.args[0], call.shape)
    if call.input_shape() != call.shape:
        raise ValueError(f"expands {call.input_shape()} to {call.shape}; let its reader broadcast")
    return call.value()


PARTS: Mapping[str, Callable[[Call, int], Node | tuple[Node, ...]]] = {
    "chunk": _chunk,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbind,
}
"""Operators that give several values, each translated on its own: from the call, with the part's shape."""

SHAPES: Mapping[str, Translation] = {
    "cat": _cat,
    "concat": _cat,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "unflatten": _reshape,
    "permute": _permute,
    "transpose": _transpose,
    "select": _select_int,
    "expand": _expand,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "slice": _slice,
}
