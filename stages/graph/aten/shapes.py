"""Joining, cutting, padding and reshaping."""

from __future__ import annotations

from collections.abc import Mapping

from stages.graph.aten.call import Call, Ref, Translation
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


SHAPES: Mapping[str, Translation] = {
    "cat": _cat,
    "concat": _cat,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "slice": _slice,
}
