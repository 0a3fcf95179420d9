"""Values as YAML gives them, to values as a component's annotations ask for them.

=====================  =========================================================================
annotation             accepts
=====================  =========================================================================
int                    an int, or text that is one (``"8"``); not a bool, not 8.0
float                  a float or an int, or text that is one (YAML reads ``1e-5`` as text); not NaN,
                       which no comparison refuses
bool                   true, false
str, Path              text (a path also where YAML reads a number)
Enum, Literal          a member's name or value; one of the values
X | None               null, else as X
tuple[X, ...], list    a list of X; ``tuple[X, Y]`` a list of that length
dict, Mapping          a mapping
class, Protocol        an instance; a protocol is checked where it is ``runtime_checkable``
=====================  =========================================================================
"""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pipeline.errors import alternatives


class MismatchError(ValueError):
    """A value does not fit its annotation."""


def convert(value: Any, hint: Any) -> Any:
    """`value` as the annotation `hint` asks for it. Raises `MismatchError` saying what is expected."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return value
    if hint is None or hint is type(None):
        return value if value is None else _refuse(value, "null")
    if origin in (Union, types.UnionType):
        return _union(value, arguments)
    if origin in (tuple, list, Sequence, Iterable) or hint in (tuple, list):
        return _sequence(value, origin or hint, arguments)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        if not isinstance(value, Mapping):
            return _refuse(value, "a mapping")
        item = arguments[1] if arguments else Any
        return {key: convert(element, item) for key, element in value.items()}
    if value is None:
        return _refuse(value, _name(hint))
    if origin is Literal:
        return value if any(_same(value, a) for a in arguments) else _refuse_choice(value, arguments)
    if not isinstance(origin or hint, type):
        return value  # NewType, Annotated and the like are the component's own to check
    return _scalar(value, origin or hint)


def _scalar(value: Any, cls: type[Any]) -> Any:
    if cls in _SCALARS:
        try:
            return _SCALARS[cls](value)
        except ValueError:
            return _refuse(value, cls.__name__)
    if issubclass(cls, Enum) and not isinstance(value, cls):
        for member in cls:
            if _same(value, member.value) or value == member.name:
                return member
        return _refuse_choice(value, [member.name for member in cls])
    if _is_instance(value, cls):
        return value
    return _refuse(value, _name(cls), _incomplete(value, cls))


def _sequence(value: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        return _refuse(value, "a list")
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise MismatchError(f"expected a list of {len(arguments)} values, got {len(value)}")
        items: Iterable[Any] = arguments
    else:
        items = [arguments[0] if arguments else Any] * len(value)
    converted = [convert(element, item) for element, item in zip(value, items, strict=True)]
    return converted if origin is list else tuple(converted)


def _union(value: Any, members: tuple[Any, ...]) -> Any:
    for member in members:  # an exact type first: "8" stays text for int | str
        if isinstance(member, type) and type(value) is member and value == value:  # a NaN is refused below
            return value
    refusals = []
    for member in members:
        try:
            return convert(value, member)
        except MismatchError as refusal:
            refusals.append(refusal)
    useful = [r for r, member in zip(refusals, members, strict=True) if member is not type(None)]
    if len(useful) == 1:
        raise useful[0]
    return _refuse(value, " or ".join(_name(member) for member in members))


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if math.isnan(number):
        raise ValueError
    return number


def _exactly(cls: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, cls):
            raise ValueError
        return value

    return check


def _path(value: Any) -> Path:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path):
        raise ValueError
    return Path(str(value))


_SCALARS: Mapping[type, Callable[[Any], Any]] = {
    int: _integer,
    float: _float,
    bool: _exactly(bool),
    str: _exactly(str),
    Path: _path,
}


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


_ABSENT = object()
_PLAIN = (str, int, float, bool, list, tuple, dict)
_NEWLINE = "\n"


def _is_instance(value: Any, cls: type[Any]) -> bool:
    if not getattr(cls, "_is_protocol", False):
        return isinstance(value, cls)
    if not getattr(cls, "_is_runtime_protocol", False):
        return not isinstance(value, str | int | float | list | dict)
    return not _lacking(value, cls)


def _lacking(value: Any, protocol: type[Any]) -> list[str]:
    """The members of a protocol that an object does not have; none of anything but a protocol."""
    names = _members(protocol) if getattr(protocol, "_is_runtime_protocol", False) else set()
    return sorted(name for name in names if inspect.getattr_static(value, name, _ABSENT) is _ABSENT)


def _members(protocol: type[Any]) -> set[str]:
    """Names that a protocol asks for. Looked up statically, as Python 3.12 does: properties do not run."""
    bases = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = {name for base in bases for name in (*vars(base), *inspect.get_annotations(base))}
    return {name for name in names if not name.startswith("_")}


def _refuse(value: Any, expected: str, more: str = "") -> Any:
    given = "null" if value is None else repr(value)
    kind = "" if value is None or isinstance(value, type) else f" ({type(value).__name__})"
    raise MismatchError(f"expected {expected}, got {given}{kind}{more}")


def _incomplete(value: Any, protocol: type[Any]) -> str:
    """Which members an object lacks; a protocol's docstring may end in an example of a complete class."""
    lacking = [] if value is None or type(value) in _PLAIN else _lacking(value, protocol)
    _, _, example = (inspect.getdoc(protocol) or "").partition("Example::\n")
    shown = f"; a complete example:\n\n{example.strip(_NEWLINE)}\n" if example else ""
    return f": it lacks {', '.join(lacking)}{shown}" if lacking else ""


def _refuse_choice(value: Any, choices: Iterable[Any]) -> Any:
    raise MismatchError(f"{value!r} is not a choice; {alternatives(str(value), map(str, choices))}")


def _name(hint: Any) -> str:
    if hint is type(None):
        return "null"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
