"""How large a program may be, and of which types its numbers are: what is checked before memory is taken.

A program may come from anywhere. Whatever its files say, sizes are bounded here, before an array is made or a
pointer reaches the engine, whose fields have 32 bits. The bounds are far beyond networks that people run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stages.integer.program import Op, Value

MAX_OPERATORS = 2**16
MAX_ELEMENTS = 2**28
"""Elements of a value, with the border that a layer or pool pads it with; of one sample."""

MAX_NUMBER = 2**24
"""The largest kernel, stride, padding, dilation, factor, bound of a slice."""

MAX_TAPS = 2**16
"""The largest window of a pool, in pixels, that is not the whole image."""

MAX_OPERATIONS = 2**40
"""Products or comparisons of one operator, for one sample."""


def is_whole(number: object) -> bool:
    """Whether it is an integer: 1.0 and True are none."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _within(bound: int) -> Callable[[object], bool]:
    return lambda number: is_whole(number) and abs(number) <= bound  # type: ignore[arg-type]


def _listed(item: Callable[[object], bool], count: int | None = None) -> Callable[[object], bool]:
    return lambda items: (
        isinstance(items, tuple | list) and count in (None, len(items)) and all(map(item, items))
    )


_NUMBER = (_within(MAX_NUMBER), f"an integer within ±{MAX_NUMBER}")
_LARGE = (_within(2**62), "an integer within ±2^62")
_LIST = (_listed(_within(MAX_ELEMENTS)), f"integers within ±{MAX_ELEMENTS}")
_PAIR = (_listed(_within(MAX_NUMBER), 2), f"two integers (height, width), at most {MAX_NUMBER}")
_PAIRS = (_listed(_PAIR[0]), f"pairs of integers (before, after), at most {MAX_NUMBER}")
_FLAG = (lambda flag: isinstance(flag, bool), "true or false")

TYPES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("groups", "headroom", "axis", "shift", "narrow", "act_min", "act_max"), _NUMBER),
    **dict.fromkeys(("epsilon", "floor"), _LARGE),
    **dict.fromkeys(("axes", "shape", "starts", "ends", "steps", "indices"), _LIST),
    **dict.fromkeys(("kernel", "stride", "padding", "dilation", "factor"), _PAIR),
    **dict.fromkeys(("keepdim", "ceil_mode"), _FLAG),
    "pads": _PAIRS,
}
"""By attribute: the test of what it may be, and the same in words."""


def check_types(op: Op) -> None:
    """Raise ValueError for an attribute of another type than kernels take, or beyond the engine's fields."""
    for name, value in op.attrs.items():
        fits, words = TYPES.get(name, (lambda _: True, ""))
        if not fits(value):
            raise ValueError(f"{name}={value!r}: must be {words}")


def check_value_types(value: Value) -> None:
    """Raise ValueError where a value's numbers are of other types, or it is too large."""
    if not _listed(is_whole)(value.shape) or any(size < 0 for size in value.shape):
        raise ValueError(f"shape={value.shape!r}: must be integers, not negative")
    if math.prod(value.shape) > MAX_ELEMENTS:
        raise ValueError(f"shape={value.shape}: has more than {MAX_ELEMENTS} elements")
    for name in ("zero_point", "quant_min", "quant_max"):
        if not is_whole(number := getattr(value, name)):
            raise ValueError(f"{name}={number!r}: must be an integer")


def check_work(op: Op, inputs: Sequence[Value], y: Value) -> None:
    """Raise ValueError where an operator would take memory or time out of all proportion."""
    x, a = inputs[0].shape, op.attrs
    if "padding" in a:
        bordered = math.prod(x[:1]) * math.prod(
            size + 2 * pad for size, pad in zip(x[1:], a["padding"], strict=True)
        )
        if bordered > MAX_ELEMENTS:
            raise ValueError(f"padding={a['padding']} around {x}: gives more than {MAX_ELEMENTS} elements")
    taps = math.prod(a.get("kernel", ()))
    if taps > MAX_TAPS and tuple(a["kernel"]) != tuple(x[1:]):
        raise ValueError(f"kernel={a['kernel']}: must be at most {MAX_TAPS} pixels, or the whole image")
    weight = op.tensors.get("weight")
    each = taps if weight is None else math.prod(weight.shape[1:])
    if op.op == "matmul":
        each = x[-1]
    if math.prod(y.shape) * each > MAX_OPERATIONS:
        raise ValueError(f"{math.prod(y.shape)} results of {each} products each: too many for one operator")
