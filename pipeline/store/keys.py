"""What an artifact is made from, as one hash: the key under which it is stored.

``key = sha256(canonical JSON of {stage, config, code, libraries, threads, ranks, device, inputs, seed})``,
with the sha256 of each input's content under its kind, and of each source file under its module. Code is what
the modules of the stage and of all components in its fields import (`pipeline.store.imports`); libraries are
the versions of what that takes from elsewhere, and Python's: its `sum` of floats rounds otherwise from 3.12
on. Threads, ranks where there are several, and a device that is no CPU are there where they show in the
result (`pipeline.stage`). Canonical: keys sorted, no spaces, floats in their shortest exact form. Two runs
whose stage would compute the same thing have the same key; change a setting, a line of the code involved, an
input's content or the seed, and it differs.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.stage import Stage, collective
from pipeline.store.imports import closure

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def identity(stage: Stage, threads: int, ranks: int = 1, device: str = "cpu") -> dict[str, Any]:
    """The ingredients of a stage's key that do not depend on inputs and seed.

    Args:
        stage: the stage.
        threads: of the numeric libraries.
        ranks: the processes of the run: how they divide a training's sums shows in it as threads do. What
            is merged exactly, or computed by one of them, is the same for any number.
        device: of the run, as torch names it: its kind shows in what is computed on it, where that is no CPU.
    """
    own = {__name__.partition(".")[0], type(stage).__module__.partition(".")[0]}
    runs_by = closure(_modules(stage), own)
    counted = {"threads": threads} if getattr(stage, "depends_on_threads", False) else {}
    if ranks > 1 and collective(stage) and getattr(stage, "depends_on_ranks", False):
        counted["ranks"] = ranks
    kind = {"device": device.partition(":")[0]} if getattr(stage, "uses_device", False) else {}
    return {
        "stage": stage.name,
        "config": describe(stage, stage.name),
        "code": runs_by.code,
        "libraries": {"python": PYTHON, **runs_by.libraries},
        **counted,
        **({} if kind.get("device") == "cpu" else kind),
    }


def key_of(ingredients: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of `ingredients`, 64 hexadecimal digits."""
    text = json.dumps(_named(ingredients), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _named(node: Any) -> Any:
    """The same with texts for keys, as JSON has: layers may go by number, which does not sort among texts."""
    if isinstance(node, Mapping):
        return {name if isinstance(name, str) else json.dumps(name): _named(node[name]) for name in node}
    return [_named(item) for item in node] if isinstance(node, list | tuple) else node


def describe(value: Any, name: str = "value") -> Any:
    """A component as JSON: its class, its fields, and its `fingerprint()` where it has that method.

    A field declared with ``field(metadata={"key": False})`` does not take part: threads, progress, and
    whatever else cannot change the result.

    Raises:
        PipelineError: a value of a type that says nothing of its content.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, type) or inspect.isroutine(value):
        return _qualified(value)
    if isinstance(value, Mapping):
        return {str(key): describe(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item, f"{name}[{index}]") for index, item in enumerate(value)]
    has_fingerprint = callable(getattr(value, "fingerprint", None))
    if not is_dataclass(value) and not has_fingerprint and not _is_plain(value):
        raise PipelineError(
            f"{name}: a {_qualified(type(value))} cannot be part of a cache key; "
            "make it a dataclass, or give it a method fingerprint() -> str"
        )
    description = {"_target_": _qualified(type(value))}
    description |= {field: describe(item, f"{name}.{field}") for field, item in _fields(value)}
    if has_fingerprint:
        description["fingerprint"] = str(value.fingerprint())
    return description


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """A dataclass's fields; of an object of another class all that it holds."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            if field.metadata.get("key", True):
                yield field.name, getattr(value, field.name)
    elif _is_plain(value):
        yield from sorted(vars(value).items())


class _Nothing:
    """What an object of a class written in Python takes, beside its attributes."""


def _is_plain(value: Any) -> bool:
    """Whether an object, of no dataclass, says all of itself by its attributes: it holds no data beside them,
    in C or in slots, as a tensor does."""
    cls = type(value)
    known = isinstance(value, type) or inspect.isroutine(value) or is_dataclass(value)
    return not known and hasattr(value, "__dict__") and cls.__basicsize__ == _Nothing.__basicsize__


def _modules(value: Any) -> Iterator[str]:
    """The modules of all components within a component, the user's own among them."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        items: Iterable[Any] = value
    else:
        if inspect.isroutine(value) or isinstance(value, type):  # a name of code, as model.target
            yield value.__module__
        elif is_dataclass(value) or callable(getattr(value, "fingerprint", None)) or _is_plain(value):
            yield type(value).__module__
        items = (item for _, item in _fields(value))
    for item in items:
        yield from _modules(item)


def _qualified(named: Any) -> str:
    """The dotted name of a class or function."""
    return f"{named.__module__}.{named.__qualname__}"
