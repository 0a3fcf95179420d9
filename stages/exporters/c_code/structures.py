"""The structures that the helpers declare, so that one can be initialized by position, as C++11 does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from stages.exporters.c_code.literals import braces

STRUCTURE = re.compile(r"typedef struct \{(.*?)\} (\w+);", re.DOTALL)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def positional(struct: str, fields: Mapping[str, Any]) -> list[str]:
    """The initializers of all fields of ``<struct>_t`` in the order of its declaration, absent ones zero.

    Raises:
        ValueError: a field that the structure does not declare.
    """
    return _all(f"{struct}_t", fields)


@cache
def declared() -> dict[str, dict[str, str]]:
    """By structure its fields in order, each with its type: without pointers, arrays with brackets."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((files("stages.exporters.c_code") / "source").iterdir(), key=lambda path: path.name):
        for body, name in STRUCTURE.findall(COMMENT.sub("", path.read_text(encoding="utf-8"))):
            found[name] = dict(field for line in body.split(";") if line.strip() for field in _fields(line))
    return found


def _fields(line: str) -> list[tuple[str, str]]:
    """``const int32_t *rows, sizes[RANK]`` as names and their types."""
    kind, names = line.replace("const ", "").split(maxsplit=1)
    declarators = [name.strip(" *").partition("[") for name in names.split(",")]
    return [(name, f"{kind}[]" if sizes else kind) for name, _, sizes in declarators]


def _all(kind: str, fields: Mapping[str, Any]) -> list[str]:
    own = declared()[kind]
    if unknown := fields.keys() - own.keys():
        raise ValueError(f"{kind} has no field {sorted(unknown)}; it has {', '.join(own)}")
    return [f"/* {name} */ {_one(inner, fields.get(name))}" for name, inner in own.items()]


def _one(kind: str, value: Any) -> str:
    item = kind.removesuffix("[]")
    if value is None:
        return "{}" if item != kind or kind in declared() else "0"
    if isinstance(value, Mapping):
        return "{" + ", ".join(_all(kind, value)) + "}"
    if isinstance(value, list | tuple):
        return braces([_one(item, one) for one in value])
    return str(value)
