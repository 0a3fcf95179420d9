"""Where channels come to lie: what pads, slices, permutes and reshapes does to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from stages.compression.channels.units import Channels, UnitIds
from stages.compression.channels.walk import Walk
from stages.graph.ir import Node


def _pad(walk: Walk, node: Node) -> Channels | None:
    """Channels of zeros, which go with what is added to them; zeros around images are no channels."""
    x = walk.values.get(node.inputs[0])
    if x is None:
        return None
    pads = node.attrs["pads"]
    before, after = (walk.units.new(count) for count in pads[x.axis])
    around = any(count for axis, pair in enumerate(pads) if axis != x.axis for count in pair)
    rest = np.where(x.rest == 0.0, 0.0, np.nan) if around else x.rest
    zeros = (np.zeros(len(ids)) for ids in (before, after))
    return Channels(
        axis=x.axis,
        ids=np.concatenate([before, x.ids, after]),
        rest=np.concatenate([next(zeros), rest, next(zeros)]),
    )


def _slice(walk: Walk, node: Node) -> Channels | None:
    x = walk.values.get(node.inputs[0])
    if x is None:
        return None
    start, end, step = (node.attrs[key][x.axis] for key in ("starts", "ends", "steps"))
    if step != 1:
        walk.stay(x, f"'{node.name}' takes one of {step} of them")
        return None
    return Channels(axis=x.axis, ids=x.ids[start:end], rest=x.rest[start:end])


def _take(walk: Walk, node: Node) -> Channels | None:
    x = walk.values.get(node.inputs[0])
    if x is None or node.attrs["axis"] != x.axis:
        return x
    indices = np.array(node.attrs["indices"], np.int64)
    return Channels(axis=x.axis, ids=x.ids[indices], rest=x.rest[indices])


def _permute(walk: Walk, node: Node) -> Channels | None:
    x = walk.values.get(node.inputs[0])
    if x is None:
        return None
    return Channels(axis=node.attrs["axes"].index(x.axis), ids=x.ids, rest=x.rest)


def _reshape(walk: Walk, node: Node) -> Channels | None:
    """Along the dimension whose slices are of one unit each; else slices of one dimension go as one.

    Of images (C, H, W) that is C where it has more than one unit, of others the dimension with most units:
    heads (T, heads, d) keep their number, and all have the same of d.
    """
    x = walk.values.get(node.inputs[0])
    if x is None:
        return None
    shape = walk.graph[node.inputs[0]].shape
    for axis, size in enumerate(node.shape):  # the dimension is still there: nothing to look at
        if size == len(x.ids) and prod(node.shape[:axis]) == prod(shape[: x.axis]):
            return Channels(axis=axis, ids=x.ids, rest=x.rest)
    sizes = [1] * len(shape)
    sizes[x.axis] = -1
    places = np.broadcast_to(np.arange(len(x.ids)).reshape(sizes), shape).reshape(node.shape)
    rows = [np.moveaxis(places, axis, 0).reshape(size, -1) for axis, size in enumerate(node.shape)]
    roots = walk.units.roots(x.ids)
    counts = [_groups(own, roots) for own in rows]
    exact = [axis for axis, (_, whole) in enumerate(counts) if whole]
    if exact:
        axis = max(exact, key=lambda own: counts[own][0])
    elif len(rows) == 3 and counts[0][0] > 1:
        axis = 0
    else:
        axis = max(range(len(rows)), key=lambda own: counts[own][0])
    for row in rows[axis]:
        walk.units.join_all(x.ids[np.unique(row)])
    first = rows[axis][:, 0]
    rest = x.rest[first]
    same = np.array([bool((x.rest[row] == x.rest[row[0]]).all()) for row in rows[axis]])
    return Channels(axis=axis, ids=x.ids[first], rest=np.where(same, rest, np.nan))


def _groups(rows: np.ndarray, roots: UnitIds) -> tuple[int, bool]:
    """How many units there are if each row is one, and whether each is one already."""
    own = roots[rows]
    if bool((own == own[:, :1]).all()):
        return len(np.unique(own[:, 0])), True
    parents: dict[int, int] = {}

    def root(unit: int) -> int:
        while parents.setdefault(unit, unit) != unit:
            unit = parents[unit]
        return unit

    for row in own:
        first, *others = np.unique(row).tolist()
        for other in others:
            parents[root(other)] = root(first)
    return len({root(unit) for unit in np.unique(own).tolist()}), False


MOVING: Mapping[str, Callable[[Walk, Node], Channels | None]] = {
    "pad": _pad,
    "slice": _slice,
    "take": _take,
    "permute": _permute,
    "reshape": _reshape,
}
"""By name of the operator, as `stages.compression.channels.rules.RULES`."""
