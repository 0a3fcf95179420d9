"""Maxima and averages over windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from stages.graph.aten.call import Call, Translation, pair
from stages.graph.aten.least import without_infinities
from stages.graph.aten.refusal import RefusalError
from stages.graph.aten.rows import as_image, row
from stages.graph.aten.windows import adaptive_average, adaptive_maximum, average
from stages.graph.ir import Node


def _max_pool2d(call: Call) -> Node:
    kernel, dilation = pair(call.args[1]), pair(call.arg(4, "dilation", 1))
    stride, padding = pair(call.arg(2, "stride") or kernel), pair(call.arg(3, "padding", 0))
    plain = dilation == (1, 1) and len(call.shape) == 3
    return Node(
        name="",
        op="max_pool2d",
        inputs=(without_infinities(call, kernel, stride, padding) if plain else call.value(),),
        attrs={
            "kernel": kernel,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": bool(call.arg(5, "ceil_mode", False)),
        },
    )


def _avg_node(call: Call, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Node:
    return Node(
        name="",
        op="avg_pool2d",
        inputs=(call.value(),),
        attrs={"kernel": kernel, "stride": stride, "padding": padding},
    )


def _avg_pool2d(call: Call) -> Node | str:
    if _several_sizes(call):
        return average(call)
    kernel = pair(call.args[1])
    padding = pair(call.arg(3, "padding", 0))
    return _avg_node(call, kernel, pair(call.arg(2, "stride") or kernel), padding)


def _several_sizes(call: Call) -> bool:
    """Whether an average pool divides by several counts, or by one that is not its window's."""
    padded = any(pair(call.arg(3, "padding", 0))) and not call.arg(5, "count_include_pad", True)
    return padded or bool(call.arg(4, "ceil_mode", False)) or call.arg(6, "divisor_override") is not None


def _adaptive_avg_pool2d(call: Call) -> Node | str:
    size, target = call.input_shape()[-2:], call.shape[-2:]
    if any(s % t for s, t in zip(size, target, strict=True)):
        return adaptive_average(call)
    kernel = (size[0] // target[0], size[1] // target[1])
    return _avg_node(call, kernel, kernel, (0, 0))


def _mean(call: Call) -> Node | tuple[Node, ...]:
    shape = call.input_shape()
    dims = call.arg(1, "dim")
    dims = (dims,) if isinstance(dims, int) else dims
    if not dims:
        raise RefusalError("averages the batch dimension too; name the others")
    axes = tuple(sorted({call.axis(dim) for dim in dims}))
    keepdim = bool(call.arg(2, "keepdim", False))
    if len(shape) != 3 or axes != (1, 2):
        attrs = {"axes": axes, "keepdim": keepdim}
        return Node(name="", op="mean", inputs=(call.value(),), attrs=attrs)
    kernel = (shape[1], shape[2])
    pool = _avg_node(call, kernel, kernel, (0, 0))
    if keepdim:
        return pool
    pool = replace(pool, shape=(shape[0], 1, 1))
    return pool, Node(name="", op="reshape", attrs={"shape": call.shape})


def _maximum(call: Call, part: int) -> Node:
    if part:
        raise ValueError("the places of its maxima have no integer form")
    return _max_pool2d(call)


def _max_pool1d(call: Call) -> tuple[Node, ...]:
    return as_image(call, _max_pool2d(_over_rows(call, (1, 1, 0, 1))))


def _avg_pool1d(call: Call) -> tuple[Node, ...] | Node | str:
    if _several_sizes(call):
        return average(call)
    kernel = row(call.args[1], 1)
    stride = row(call.arg(2, "stride") or call.args[1], 1)
    return as_image(call, _avg_node(call, kernel, stride, row(call.arg(3, "padding", 0), 0)))


def _over_rows(call: Call, heights: tuple[int, ...]) -> Call:
    """The call with the heights of its geometry, which are its first arguments after the input."""
    geometry = call.args[1 : 1 + len(heights)]
    pairs = (row(a, height) for a, height in zip(geometry, heights, strict=False))
    return replace(call, args=(call.args[0], *pairs, *call.args[1 + len(geometry) :]))


def _adaptive_avg_pool1d(call: Call) -> tuple[Node, ...] | Node | str:
    size, target = call.input_shape()[-1], call.shape[-1]
    if size % target:
        return adaptive_average(call)
    kernel = (1, size // target)
    return as_image(call, _avg_node(call, kernel, kernel, (0, 0)))


POOLS: Mapping[str, Translation] = {
    "max_pool1d": _max_pool1d,
    "avg_pool1d": _avg_pool1d,
    "adaptive_avg_pool1d": _adaptive_avg_pool1d,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
}

MAXIMA: Mapping[str, Callable[[Call, int], Node | str | tuple[Node, ...]]] = {
    "max_pool2d_with_indices": _maximum,
    "adaptive_max_pool1d": adaptive_maximum,
    "adaptive_max_pool2d": adaptive_maximum,
}
"""Operators that give maxima, and where they lie."""
