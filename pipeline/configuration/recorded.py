"""Configurations that came with a record: bounded, and without a way into the environment.

A run's configuration is recorded as it was written, with its references: ``${data.root}`` is another key's
value. A resolver, ``${oc.env:NAME}``, is a function that the reader's machine runs: a record from elsewhere
would have secrets of the environment put where it can show them. So a record names only what ``trust`` lists.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.configuration.bounds import read_yaml
from pipeline.errors import ConfigError

_OPEN = re.compile(r"\$\{")
_PLAIN = re.compile(r"\$\{\s*\.*[A-Za-z_][\w.\[\]-]*\s*\}")
"""A reference to a key; what has a colon, or a reference within, is a resolver or may become one."""
_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")


def read_record(file: Path, run: str, trust: Collection[str] = ()) -> DictConfig:
    """The configuration in a record's file, unresolved.

    Args:
        file: of YAML.
        run: the record's id, for messages.
        trust: packages and resolvers that it may name.

    Raises:
        ConfigError: as `read_yaml`; no mapping of keys; a resolver that `trust` does not list.
    """
    text = read_yaml(file)
    yaml: Any = import_module("yaml")
    damaged = (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError, AttributeError, AssertionError)
    try:
        logged = OmegaConf.create(text)
    except damaged as error:  # keys that are lists, or twice there; tags of no type; a number alone
        reason = " ".join(str(error).split())
        raise ConfigError(f"replay={run}: the record's configuration cannot be read ({reason})") from error
    if not isinstance(logged, DictConfig):
        raise ConfigError(f"replay={run}: the record's configuration is no mapping of keys")
    for path, text in _texts(OmegaConf.to_container(logged, resolve=False), ""):
        for place in _OPEN.finditer(text):
            if _PLAIN.match(text, place.start()):
                continue
            named = _RESOLVER.match(text, place.start())
            if named is None:
                raise ConfigError(
                    f"{path}: {text!r} is a reference that a recorded configuration makes of others. "
                    "Remedy: look at it, and give the key's value in the record itself"
                )
            if named[1] not in trust:
                raise ConfigError(
                    f"{path}: {text!r} asks this machine by '{named[1]}', and a record may come from "
                    f"anywhere. Remedy: where you know it, trust=[{named[1]}]"
                )
    return logged


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text with its config path."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _texts(child, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _texts(child, f"{path}[{index}]")
