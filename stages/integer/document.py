"""What both forms of a program on disk share: fields of JSON, and what reading them raises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from stages.integer.kernel import signature
from stages.integer.program import Op, Value

MALFORMED = (
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    ZeroDivisionError,
    RecursionError,
)
"""What reading fields raises where a file holds other types, or numbers out of all proportion."""

USUAL: Mapping[str, Any] = {
    "stride": (1, 1),
    "padding": (0, 0),
    "dilation": (1, 1),
    "narrow": 0,
    "groups": 1,
    "ceil_mode": False,
    "headroom": 0,
}
"""Attributes that are left out where they have this value."""

_NONE = object()


def value_to_json(value: Value) -> dict[str, Any]:
    """A value's fields, but for its name."""
    return {
        "shape": value.shape,
        "scale": value.scale,
        "zero_point": value.zero_point,
        "levels": (value.quant_min, value.quant_max),
    }


def value_from_json(name: str, fields: Mapping[str, Any]) -> Value:
    """The value that `value_to_json` wrote."""
    quant_min, quant_max = fields["levels"]
    return Value(
        name=name,
        shape=tuple(fields["shape"]),
        scale=float(fields["scale"]),
        zero_point=fields["zero_point"],
        quant_min=quant_min,
        quant_max=quant_max,
    )


def unusual_attrs(op: Op) -> dict[str, Any]:
    """The operator's attributes, but for those that have their usual value.

    In the order of names: a program that was read is written as the one that was made.
    """
    return {name: op.attrs[name] for name in sorted(op.attrs) if op.attrs[name] != USUAL.get(name, _NONE)}


def with_usual_attrs(op: Op, attrs: Mapping[str, Any]) -> Op:
    """The operator with `attrs`, of JSON, and the usual ones that they leave out."""
    own = {name: USUAL[name] for name in signature(op).attr_names(op) if name in USUAL}
    own |= {name: tuples(value) for name, value in attrs.items()}
    return replace(op, attrs=own)


def shared_weights(ops: Iterable[Op]) -> dict[str, str]:
    """By output of each operator whose weight one before has too, that one's output."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    shared = {}
    for op in ops:
        if (weight := op.tensors.get("weight")) is not None:
            owner = first.setdefault((str(weight.dtype), weight.shape, weight.tobytes()), op.output)
            if owner != op.output:
                shared[op.output] = owner
    return shared


def tuples(value: Any) -> Any:
    """JSON has lists where programs have tuples."""
    if isinstance(value, dict):
        return {name: tuples(item) for name, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


def reason(error: Exception) -> str:
    """What went wrong, in words."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
