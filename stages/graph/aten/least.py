"""Maxima over images that are padded with −∞, as of TensorFlow's one-sided ``same``.

A window that reaches over the border holds the entries at the border, so that these, repeated, change no
maximum: they stand for −∞, which is no level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from stages.graph.aten.call import Call
from stages.graph.aten.chain import Chain
from stages.graph.ir import Node


def without_infinities(
    call: Call, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> str:
    """The name of what a max pool over the value of `call` may read in its place; that value's own mostly.

    Args:
        call: of a max pool without dilation.
        kernel: of the pool: height and width; likewise stride and padding.
        stride: see above.
        padding: see above.

    Raises:
        ValueError: a window would lie in the padding alone.
    """
    source = call.nodes[call.value()]
    if (pads := _infinite(source)) is None:
        return source.name
    inner = call.nodes[source.inputs[0]].shape
    chain = Chain(call, source.inputs[0], inner)
    lead = len(inner) - 2
    for axis, (before, after) in enumerate(pads[lead:]):
        size, out = inner[lead + axis], call.shape[lead + axis]
        for i in range(out):
            start = i * stride[axis] - padding[axis] - before
            if start >= size or start + kernel[axis] <= 0:
                raise ValueError("has windows that lie in a padding of −∞ alone")
        chain.take(lead + axis, [min(max(j - before, 0), size - 1) for j in range(before + size + after)])
    return chain.name


def _infinite(node: Node) -> tuple[tuple[int, int], ...] | None:
    """What an island pads an image with −∞ by, for each axis of a sample; None for any other node."""
    if node.op != "aten" or node.clamps or len(node.attrs["calls"]) != 1:
        return None
    function, args, kwargs, _, place = node.attrs["calls"][0]
    given = [*args[1:], *(value for _, value in kwargs)]
    if function.partition(".")[0] not in ("constant_pad_nd", "pad") or place != (0, 1, 1):
        return None
    lists = [[one[1] for one in value[1]] for value in given if value[0] == "list"]
    if ("is", -math.inf) not in given or len(lists) != 1 or min(lists[0]) < 0:
        return None
    flat = [int(own) for own in lists[0]]
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)][::-1]
    whole = ((0, 0),) * (len(node.shape) - len(pairs)) + tuple(pairs)
    return whole if len(pairs) <= 2 <= len(node.shape) else None
