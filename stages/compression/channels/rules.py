"""What operators do to channels: by name, from those that a node reads to those of its value.

A rule returns None where the value stays whole, and says why of what the node reads (`Walk.stay`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from stages.compression.channels.moving import MOVING
from stages.compression.channels.units import Channels
from stages.compression.channels.walk import Walk
from stages.graph.execute import compute
from stages.graph.ir import Node

ChannelRule = Callable[[Walk, Node], Channels | None]
"""A function of the walk and the node that it has come to."""


def _whole(walk: Walk, node: Node) -> Channels | None:
    """The network's input, and constants until something that is followed reads them."""
    return None


def _conv2d(walk: Walk, node: Node) -> Channels | None:
    x = walk.operands(node)[0]
    weight = walk.graph.params[node.params["weight"]]
    for own in walk.operands(node)[1:]:
        walk.stay(own, f"'{node.name}' adds them to what it computes")
    ids = walk.units.new(len(weight))
    if x is not None and x.axis != 0:
        walk.stay(x, f"'{node.name}' reads them along another dimension")
        x = None
    if node.attrs["groups"] > 1:
        _grouped(walk, node, x, ids, node.attrs["groups"])
    elif x is not None:
        padded = any(node.attrs["padding"])
        walk.stay(x, f"'{node.name}' pads what is not 0 without them", _unfit(x, folds=not padded))
    return walk.source(node, 0, ids)


def _grouped(walk: Walk, node: Node, x: Channels | None, ids: np.ndarray, groups: int) -> None:
    """Whole groups of a convolution go, with all that they read."""
    written = ids.reshape(groups, -1)
    read = None if x is None else x.ids.reshape(groups, -1)
    for group in range(groups):
        walk.units.join_all(written[group])
        if read is not None:
            walk.units.join_all(np.concatenate([read[group], written[group, :1]]))
    if read is None:
        walk.units.stay(ids, f"'{node.name}' reads, in groups, a value that stays whole")


def _linear(walk: Walk, node: Node) -> Channels | None:
    last = len(node.shape) - 1
    x = walk.operands(node)[0]
    for own in walk.operands(node)[1:]:
        walk.stay(own, f"'{node.name}' adds them to what it computes")
    if x is not None and x.axis != last:
        walk.stay(x, f"'{node.name}' reads them along another dimension")
    elif x is not None:
        walk.stay(x, f"'{node.name}' reads what is not constant without them", _unfit(x, folds=True))
    return walk.source(node, last, walk.units.new(node.shape[last]))


def _embedding(walk: Walk, node: Node) -> Channels | None:
    last = len(node.shape) - 1
    walk.stay(walk.operands(node)[0], f"'{node.name}' looks them up")
    return walk.source(node, last, walk.units.new(node.shape[last]))


def _unfit(x: Channels, *, folds: bool) -> np.ndarray:
    """The channels that are not 0 without their unit, or not a number that a bias takes in."""
    return ~np.isfinite(x.rest) if folds else x.rest != 0.0  # NaN is not 0 either


def _pointwise(walk: Walk, node: Node) -> Channels | None:
    """A function of each element alone."""
    x = walk.operands(node)[0]
    if x is None:
        return None
    rest = compute(walk.graph, node, torch.from_numpy(x.rest)[None])[0].double().numpy()
    return Channels(axis=x.axis, ids=x.ids, rest=np.where(np.isfinite(x.rest), rest, np.nan))


def _by_channel(walk: Walk, node: Node) -> Channels | None:
    """A function with parameters of each channel, in whose value a channel without its unit is made 0."""
    x = walk.operands(node)[0]
    if x is None:
        return None
    if x.axis != node.attrs.get("axis", 0):
        walk.stay(x, f"'{node.name}' has parameters along another dimension")
        return None
    return walk.source(node, x.axis, x.ids)


def _group_norm(walk: Walk, node: Node) -> Channels | None:
    """Statistics are those of a group of channels, which go as one."""
    x = walk.operands(node)[0]
    if x is None or x.axis != 0:
        walk.stay(x, f"'{node.name}' has parameters along another dimension")
        return None
    for group in x.ids.reshape(node.attrs["groups"], -1):
        walk.units.join_all(group)
    return walk.source(node, 0, x.ids)


def _spatial(keeps: Callable[[Node], bool]) -> ChannelRule:
    """Windows and resampling of images, channel by channel; `keeps`: whether a constant stays what it is."""

    def rule(walk: Walk, node: Node) -> Channels | None:
        x = walk.operands(node)[0]
        if x is None or x.axis != 0 or len(node.shape) != 3:
            walk.stay(x, f"'{node.name}' joins neighbours of them")
            return None
        rest = x.rest if keeps(node) else np.where(x.rest == 0.0, 0.0, np.nan)
        return Channels(axis=0, ids=x.ids, rest=rest)

    return rule


def _reduced(walk: Walk, node: Node) -> Channels | None:
    """Mean, sum and extremes along dimensions."""
    x = walk.operands(node)[0]
    if x is None:
        return None
    axes = node.attrs["axes"]
    if x.axis in axes:
        walk.stay(x, f"'{node.name}' ({node.op}) is of all of them")
        return None
    axis = x.axis if node.attrs["keepdim"] else x.axis - sum(own < x.axis for own in axes)
    rest = np.where(x.rest == 0.0, 0.0, np.nan) if node.op == "sum" else x.rest
    return Channels(axis=axis, ids=x.ids, rest=rest)


def _softmax(walk: Walk, node: Node) -> Channels | None:
    """Softmax along another dimension, and masks before one: what it gives without a channel is not known."""
    x, *others = walk.operands(node)
    shapes = [walk.graph[name].shape for name in node.inputs[1:]]
    along = x is not None and node.attrs.get("axis") == x.axis
    if x is None or along or any(len(s) != len(node.shape) or s[x.axis] != 1 for s in shapes):
        for own in (x, *others):
            walk.stay(own, f"'{node.name}' ({node.op}) is of all of them")
        return None
    for own in others:
        walk.stay(own, f"'{node.name}' reads them as a mask")
    return Channels(axis=x.axis, ids=x.ids, rest=np.full(len(x.ids), np.nan))


def _matmul(walk: Walk, node: Node) -> Channels | None:
    """Products along the dimension that is summed over, and along the others."""
    a, b = walk.operands(node)
    rank = len(node.shape)
    row, column = rank - 2, rank - 1
    why = f"'{node.name}' (matmul) reads them beside a value that is not followed along them"
    if a is not None and b is not None and (a.axis, b.axis) == (column, row):
        walk.units.join(a.ids, b.ids)
        walk.stay(a, f"'{node.name}' adds what is not 0 without them", (a.rest != 0.0) & (b.rest != 0.0))
        return None
    if a is not None and b is not None and a.axis == b.axis < row and len(a.ids) == len(b.ids):
        walk.units.join(a.ids, b.ids)
        zero = (a.rest == 0.0) | (b.rest == 0.0)
        return Channels(axis=a.axis, ids=a.ids, rest=np.where(zero, 0.0, np.nan))
    if a is not None and (a.axis != row or b is not None):
        walk.stay(a, why)
        a = None
    if b is not None and b.axis != column:
        walk.stay(b, why)
        b = None
    passed = a if a is not None else b
    if passed is None:
        return None
    rest = np.where(passed.rest == 0.0, 0.0, np.nan)
    return Channels(axis=passed.axis, ids=passed.ids, rest=rest)


def _concat(walk: Walk, node: Node) -> Channels | None:
    parts, axis = walk.operands(node), node.attrs["axis"]
    if all(own is None for own in parts):
        return None
    if all(own is None or own.axis == axis for own in parts):
        found = [
            _staying(walk, node, walk.graph[name].shape[axis], axis) if own is None else own
            for name, own in zip(node.inputs, parts, strict=True)
        ]
        ids, rest = (np.concatenate([getattr(own, key) for own in found]) for key in ("ids", "rest"))
        return Channels(axis=axis, ids=ids, rest=rest)
    known = [own for own in parts if own is not None]
    if len(known) < len(parts) or len({own.axis for own in known}) > 1:
        for own in known:
            walk.stay(own, f"'{node.name}' (concat) joins values that are not followed along one dimension")
        return None
    rest = known[0].rest
    for own in known[1:]:
        walk.units.join(known[0].ids, own.ids)
        rest = np.where(rest == own.rest, rest, np.nan)
    return Channels(axis=known[0].axis, ids=known[0].ids, rest=rest)


def _staying(walk: Walk, node: Node, count: int, axis: int) -> Channels:
    """Channels of a value that stays whole, beside others."""
    ids = walk.units.new(count)
    walk.units.stay(ids, f"'{node.name}' joins them to a value that stays whole")
    return Channels(axis=axis, ids=ids, rest=np.full(count, np.nan))


def _elementwise(walk: Walk, node: Node) -> Channels | None:
    """Sums, products and extremes of two values whose shapes broadcast."""
    a, b = walk.operands(node)
    shapes = [walk.graph[name].shape for name in node.inputs]
    first = _full(walk, node, a, shapes[0], shapes[1])
    second = _full(walk, node, b, shapes[1], shapes[0])
    if first is None and second is None:
        return None
    if first is not None and second is not None and first.axis != second.axis:
        walk.stay(second, f"'{node.name}' reads them beside channels along another dimension")
        second = None
    axis = first.axis if first is not None else second.axis if second is not None else 0
    both = [first, second]
    for i, own in enumerate(both):
        if own is None and shapes[i][axis] != 1:
            both[i] = walk.adopt(node.inputs[i], axis) if len(shapes[i]) == len(node.shape) else None
            if both[i] is None:
                walk.stay(
                    both[1 - i], f"'{node.name}' ({node.op}) reads them beside a value that stays whole"
                )
                return None
    known = [own for own in both if own is not None]
    if len(known) == 2:
        walk.units.join(known[0].ids, known[1].ids)
    rests = [
        _uniform(walk, name, len(known[0].ids)) if own is None else own.rest
        for own, name in zip(both, node.inputs, strict=True)
    ]
    return Channels(axis=axis, ids=known[0].ids, rest=_combined(walk, node, *rests))


def _full(
    walk: Walk, node: Node, own: Channels | None, shape: tuple[int, ...], other: tuple[int, ...]
) -> Channels | None:
    """The channels of an operand, unless they are one that broadcasts to many, which stays."""
    if own is None:
        return None
    if len(shape) != len(other) or shape[own.axis] != node.shape[own.axis]:
        walk.stay(own, f"'{node.name}' repeats them")
        return None
    return own


def _uniform(walk: Walk, name: str, count: int) -> np.ndarray:
    """What a value that broadcasts along channels is: a constant of one number, or not known."""
    node, value = walk.graph[name], np.nan
    if node.op == "constant":
        constant = walk.graph.params[node.params["value"]]
        if bool((constant == constant.flatten()[0]).all()) and not node.clamps:
            value = float(constant.flatten()[0])
    return np.full(count, value)


def _combined(walk: Walk, node: Node, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    operands = (torch.from_numpy(a)[None], torch.from_numpy(b)[None])
    rest: np.ndarray = compute(walk.graph, node, *operands)[0].double().numpy()
    rest = np.where(np.isnan(a) | np.isnan(b), np.nan, rest)
    if node.op == "multiply" and not node.clamps:
        rest = np.where((a == 0.0) | (b == 0.0), 0.0, rest)  # whatever the other is
    return rest


def _window(node: Node) -> bool:
    return not any(np.ravel(node.attrs["padding"]))


RULES: Mapping[str, ChannelRule] = {
    **MOVING,
    "input": _whole,
    "constant": _whole,
    "conv2d": _conv2d,
    "linear": _linear,
    "embedding": _embedding,
    "clamp": _pointwise,
    "table": _pointwise,
    "dropout": _pointwise,
    "prelu": _by_channel,
    "scale_channels": _by_channel,
    "group_norm": _group_norm,
    "max_pool2d": _spatial(lambda node: True),
    "upsample_nearest": _spatial(lambda node: True),
    "avg_pool2d": _spatial(_window),
    "insert_zeros": _spatial(lambda node: False),
    "resample": _spatial(lambda node: False),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduced),
    **dict.fromkeys(("softmax", "mask"), _softmax),
    "matmul": _matmul,
    "concat": _concat,
    **dict.fromkeys(("add", "subtract", "multiply", "maximum", "minimum"), _elementwise),
}
"""By name of the operator."""
