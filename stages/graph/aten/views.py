"""Changes in place that are seen through a view: ``x[:, :2] = y`` changes x.

A graph's values never change. What a view's base is after the change is written as a new value of the base,
made of both: ``cat([y, x[:, 2:]], 1)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stages.graph.aten.composites import traced_again
from stages.graph.aten.names import base_name, in_place

MOST_PIECES = 64
"""Pieces that a change with a step, ``x[:, ::2] = y``, is put together of at most."""


def _slice(
    base: Tensor, view: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    size = base.shape[dim]
    first, last, step = slice(start, end, step).indices(size)
    if step == 1:
        after = max(first, last)
        parts = [(base, 0, first), (view, 0, view.shape[dim]), (base, after, size - after)]
        # none of an empty one: torch 2.8 keeps the call, whose result would have no samples
        pieces = [part if part is view else part.narrow(dim, at, n) for part, at, n in parts if n]
    elif size > MOST_PIECES:
        raise ValueError(f"changes {size} entries with a step of {step}; up to {MOST_PIECES} are followed")
    else:
        chosen = {index: place for place, index in enumerate(range(first, last, step))}
        pieces = [
            view.narrow(dim, chosen[i], 1) if i in chosen else base.narrow(dim, i, 1) for i in range(size)
        ]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def _select(base: Tensor, view: Tensor, dim: int, index: int) -> Tensor:
    index %= base.shape[dim]
    return _slice(base, view.unsqueeze(dim), dim, index, index + 1)


def _reshaped(base: Tensor, view: Tensor, *_: Any, **__: Any) -> Tensor:
    return view.reshape(base.shape)


def _transpose(base: Tensor, view: Tensor, a: int, b: int) -> Tensor:
    return view.transpose(a, b)


def _permute(base: Tensor, view: Tensor, dims: list[int]) -> Tensor:
    order = [dim % base.ndim for dim in dims]
    return view.permute([order.index(dim) for dim in range(base.ndim)])


_SAME_ELEMENTS = (
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
    *("detach", "alias", "contiguous"),
)
VIEWS: Mapping[str, Callable[..., Tensor]] = {
    "slice": _slice,
    "select": _select,
    "transpose": _transpose,
    "permute": _permute,
    **dict.fromkeys(_SAME_ELEMENTS, _reshaped),
}
"""Functions whose results are views: from the base, what the view has become and the call's other arguments
to what the base has become."""


def changed_bases(changed: torch.fx.Node, by: torch.fx.Node) -> list[tuple[torch.fx.Node, torch.fx.Node]]:
    """The views, each with its base, through which a change is seen by what is called later, the first first.

    Args:
        changed: the value that is changed.
        by: the call that changes it.
    """
    chain: list[tuple[torch.fx.Node, torch.fx.Node]] = []
    seen, view = 0, changed
    while _written(view) is not None and isinstance(base := view.args[0], torch.fx.Node):
        chain.append((view, base))
        if any(by < user for user in base.users):
            seen = len(chain)
        view = base
    return chain[:seen]


def base_after(view: torch.fx.Node, base: torch.fx.Node) -> torch.fx.GraphModule | None:
    """From a base and its changed view to the changed base, as a graph; None where that cannot be written."""
    tensors = [node.meta.get("val") for node in (base, view)]
    write = _written(view)
    if write is None or not all(isinstance(tensor, Tensor) for tensor in tensors):
        return None
    return traced_again(lambda b, v: write(b, v, *view.args[1:], **view.kwargs), tensors, view)


def _written(view: torch.fx.Node) -> Callable[..., Tensor] | None:
    """How a changed view is written into its base; what a change in place gives is its argument itself."""
    base = base_name(view)
    return _reshaped if in_place(base) else VIEWS.get(base)
