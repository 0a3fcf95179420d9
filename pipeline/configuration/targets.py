"""Dotted names to what they name."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from pipeline.errors import alternatives


class TargetError(ValueError):
    """A dotted name leads nowhere, or to something that cannot be called."""


def locate(target: object) -> Callable[..., Any]:
    """The class or function that ``package.module.Name`` names, or ``package.module.Class.method``.

    Imports the module.

    Raises:
        TargetError: there is no such module or name; says which names there are.
    """
    if not isinstance(target, str) or "." not in target.strip("."):
        raise TargetError(f"{target!r} is not a dotted name like package.module.Class")
    module_name, _, name = target.rpartition(".")
    if not _exists(module_name):
        if (method := _method(module_name, name)) is not None:
            return method
        top = module_name.partition(".")[0]
        remedy = "" if _exists(top) else f"; install '{top}', or start in the folder that it lies in"
        raise TargetError(f"'{target}': no module '{module_name}'{_siblings(module_name)}{remedy}")
    module = _imported(module_name, target)
    if not callable(component := getattr(module, name, None)):
        if component is not None:
            kind = type(component).__name__
            raise TargetError(f"'{target}' is a {kind}: must be a class, or a function that gives the object")
        own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module_name]
        public = [n for n in own if not n.startswith("_")]
        raise TargetError(f"'{target}': '{module_name}' has no class '{name}'; {alternatives(name, public)}")
    return component  # type: ignore[no-any-return]


def _method(class_name: str, name: str) -> Callable[..., Any] | None:
    """A class's own way to make something: ``transformers.ViTModel.from_pretrained``."""
    module_name, _, cls = class_name.rpartition(".")
    if not module_name or not _exists(module_name):
        return None
    found = getattr(getattr(_imported(module_name, f"{class_name}.{name}"), cls, None), name, None)
    return found if callable(found) else None


def _imported(module_name: str, target: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # a module of the user's, or of a library's, may raise anything
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise TargetError(f"'{target}': importing '{module_name}' failed: {kind}{error}") from error


def _exists(module_name: str) -> bool:
    if module_name in sys.modules:
        return True
    try:
        return find_spec(module_name) is not None
    except (ImportError, ValueError):
        return False


def _siblings(module_name: str) -> str:
    """The modules beside a missing one, where there is such a package."""
    package, _, name = module_name.rpartition(".")
    if not package or not _exists(package):
        return ""
    found: Iterable[Any] = pkgutil.iter_modules(getattr(importlib.import_module(package), "__path__", []))
    return f" in '{package}'; {alternatives(name, (module.name for module in found))}"
