"""Which of the pipeline's own names a configuration from elsewhere may have called.

A record names what it built. Of our own packages that is a component: a class that is its own schema (a
dataclass), or what an option of ``conf/`` names as its ``_target_``. Any other function would be called with
arguments of the record's choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from pipeline.place import CONF

_TARGET = re.compile(r"^[ -]*_target_: *[\"']?([\w.]+)", re.MULTILINE)


def is_component(component: Callable[..., Any], target: str) -> bool:
    """Whether `target`, which names `component`, is one that a configuration is made of."""
    return (isinstance(component, type) and is_dataclass(component)) or target in _listed()


@cache
def _listed() -> frozenset[str]:
    """Every ``_target_`` of the packaged options."""
    texts = [path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml")]
    return frozenset(name for text in texts for name in _TARGET.findall(text))
