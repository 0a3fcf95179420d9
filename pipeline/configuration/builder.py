"""The checked builder: a configuration becomes component instances, or one list of all its mistakes.

A mapping with ``_target_`` is a component: the dotted name of a class (or function) and values for its
arguments; an argument annotated ``Callable`` takes such a name too, for what it names. A name may lead to the
user's own code, which is listed for the log, unless the configuration came from elsewhere (``code``).

Every node is built once: where ``${quantizer}`` refers to a group, the group's own config path
is the one that messages name, and all its users share the instance.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.configuration.coercion import MismatchError, convert
from pipeline.configuration.components import is_component
from pipeline.configuration.targets import TargetError, locate
from pipeline.errors import ConfigError, alternatives

T = TypeVar("T")

TRUSTED = ("pipeline", "stages")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
_RESOLVED = re.compile(r"\$\{([^}]*)")
_WORD = re.compile(r"\w+")
_FIELD = re.compile(r"(\w+)=")
_FAILED: Any = object()


class Builder:
    """Builds the components of one composed configuration, and gathers its problems.

    Args:
        root: the whole configuration, which references resolve against.
        trusted: packages whose classes any configuration may name.
        code: further packages whose code this one may run; None for any, where the user composed it. What
            came with a record or a download runs none but these: a name is enough to run any function.
    """

    def __init__(
        self,
        root: DictConfig,
        *,
        trusted: tuple[str, ...] = TRUSTED,
        code: Collection[str] | None = None,
    ) -> None:
        self.user_code: list[str] = []
        """The user's own targets, as ``model: my_net.Net``, for the run's log."""
        self._root = root
        self._trusted = trusted
        self._code = code
        self._problems: dict[str, None] = {}  # an ordered set: shared nodes report once
        self._built: dict[str, Any] = {}
        self._written: dict[str, str] = {}  # path of use -> path where the value is written

    def build(self, path: str = "") -> Any:
        """Build the node at a config path; ``""`` is the whole configuration, as a dict.

        Collects problems instead of raising; call `raise_problems` before using the result.
        """
        if not path:
            # by the keys themselves: one of a file may have a dot in it, and is no path
            return {str(key): self._child(self._root, key, str(key)) for key in self._root}  # type: ignore[arg-type]
        above, _, key = path.rpartition(".")
        parent = OmegaConf.select(self._root, above) if above else self._root
        if not isinstance(parent, DictConfig | ListConfig):
            return self._problem(f"{path}: there is no {above}")
        return self._child(parent, key, path)

    def build_as(self, cls: type[T]) -> T:
        """Build a dataclass from the root's keys that are its fields; other keys are left alone."""
        known = [field.name for field in fields(cls) if field.name in self._root]  # type: ignore[arg-type]
        built: T = self._call(cls, {name: self.build(name) for name in known}, "")
        return built

    def refuse_unused(self, added: Collection[str], known: Collection[str]) -> None:
        """Note as a problem each key at the root that does nothing, as of a mistyped ``+key=value``.

        Args:
            added: keys that a command line adds; those that files add are their writers' business.
            known: keys that something reads. So does who refers to one, and a component stands for itself.
        """
        written: Any = OmegaConf.to_container(self._root, resolve=False)
        referred = {word for text in _RESOLVED.findall(str(written)) for word in _WORD.findall(text)}
        for key, node in written.items():
            component = isinstance(node, dict) and "_target_" in node
            if str(key) in added and str(key) not in referred.union(known) and not component:
                self._problem(f"{key}: nothing reads it; {alternatives(str(key), known)}")

    def raise_problems(self) -> None:
        """Raise `ConfigError` with every problem found so far, a line each."""
        if self._problems:
            count = len(self._problems)
            title = f"the configuration has {count} problem{'s' if count > 1 else ''}:"
            raise ConfigError("\n  ".join([title, *self._problems]))

    def _problem(self, text: str) -> Any:
        self._problems[text] = None
        return _FAILED

    def _child(self, parent: Any, key: str | int, path: str) -> Any:
        """Build ``parent[key]``, at the path where it is written rather than where it is used."""
        used, passed = path, {path}
        try:
            while reference := _REFERENCE.fullmatch(str(_raw(parent, key))):
                path = reference[1]
                above, _, key = path.rpartition(".")
                parent = OmegaConf.select(self._root, above) if above else self._root
                if path in passed:
                    return self._problem(f"{used}: refers to itself, by way of {path}")
                passed.add(path)
                if isinstance(parent, DictConfig) and key not in parent and key.isdecimal():
                    key = int(key)
                if not isinstance(parent, DictConfig) or key not in parent:
                    names = _options(str(key), parent if isinstance(parent, DictConfig) else ())
                    return self._problem(f"{used}: refers to {path}, which is not set; {names}")
            self._written[used] = path
            if OmegaConf.is_missing(parent, key):
                return self._problem(_missing(path))
            node = parent[key]
        except OmegaConfBaseException as error:
            return self._problem(f"{used}: {str(error).splitlines()[0]}")
        if not isinstance(node, DictConfig | ListConfig):
            return node
        if path not in self._built:
            self._built[path] = self._node(node, path)
        return self._built[path]

    def _node(self, node: DictConfig | ListConfig, path: str) -> Any:
        if isinstance(node, ListConfig):
            items = [self._child(node, index, f"{path}[{index}]") for index in range(len(node))]
            return _FAILED if _any_failed(items) else items
        component, keys = None, None  # the keys that it takes, None for any
        if "_target_" in node:
            component = self._located(node["_target_"], f"{path}._target_")
            if component is _FAILED and self._code is not None:
                return _FAILED  # a record's: what it would have been given is not built
            keys = None if component is _FAILED else _keys(component)
        values: dict[str, Any] = {}
        for key in (key for key in node if key != "_target_"):
            text = f"{path}.{key!s}"
            known = isinstance(key, str) or type(key) is int  # nn.Sequential's modules are named 0, 1, …
            if not known:
                values[str(key)] = self._problem(_no_name(text))
            elif keys is None or str(key) in keys:
                values[str(key)] = self._child(node, key, text)  # type: ignore[arg-type]
            else:  # refused below, and never built: to build is to run code
                values[str(key)] = _raw(node, key)  # type: ignore[arg-type]
        if component is None:
            return _FAILED if _any_failed(values.values()) else values
        return _FAILED if component is _FAILED else self._call(component, values, path)

    def _located(self, target: object, path: str) -> Any:
        """What the dotted name at `path` names; a problem where that is nothing, or code that may not run."""
        top = str(target).partition(".")[0]
        if top not in self._trusted and self._code is not None and top not in self._code:
            return self._problem(  # before anything is imported, which runs code too
                f"{path}: '{target}' is code that a recorded configuration names; a record may come from "
                f"anywhere, so that it runs none. Remedy: where you know it, trust=[{top}]"
            )
        private = next((part for part in str(target).split(".") if part.startswith("_")), None)
        if private is not None and self._code is not None:
            return self._problem(f"{path}: '{target}': '{private}' is private, and no component")
        try:
            component = locate(target)
        except TargetError as error:
            return self._problem(f"{path}: {error}")
        home = str(getattr(component, "__module__", "")).partition(".")[0]
        if top in self._trusted and home in self._trusted:
            if self._code is not None and not is_component(component, str(target)):
                return self._problem(
                    f"{path}: '{target}' is no component: neither a class with a schema nor what an option "
                    "of conf/ names; a recorded configuration calls nothing else"
                )
            return component
        if top in self._trusted and self._code is not None:  # a module's import, as pipeline.session.Path
            return self._problem(f"{path}: '{target}' is not the pipeline's own, but imported there")
        # a group that several stages refer to is built once, and listed once
        self.user_code.append(f"{path.removesuffix('._target_')}: {target}")
        return component

    def _call(self, component: Callable[..., Any], values: Mapping[str, Any], path: str) -> Any:
        """Check `values` against the component's arguments, convert them, and call it."""
        parameters = inspect.signature(component).parameters.values()
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = {p.name: p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        hints = _hints(component)
        prefix = f"{path}." if path else ""
        arguments: dict[str, Any] = {}
        refusals: list[str] = []
        # a class of the user's in the place of one of ours leaves out what that had, where it says nothing
        own = str(getattr(component, "__module__", "")).partition(".")[0] in self._trusted
        values = {k: v for k, v in values.items() if own or v is not None or k in named or open_ended}
        for name, value in values.items():
            hint = hints.get(name, Any)
            value = self._grouped(value, hint, prefix + name)
            if name not in named and not open_ended:
                refusals.append(f"{prefix}{name}: unknown key; {_options(name, named)}")
            elif value is not _FAILED:
                try:
                    arguments[name] = convert(value, hint)
                except MismatchError as error:
                    refusals.append(f"{self._written.get(prefix + name, prefix + name)}: {error}")
        for name, parameter in named.items():
            if parameter.default is parameter.empty and name not in values:
                refusals.append(_missing(prefix + name))
        for refusal in refusals:
            self._problem(refusal)
        if len(arguments) < len(values) or refusals:
            return _FAILED
        try:
            return component(**arguments)
        except (ValueError, ImportError, OSError) as error:
            # a component names its own field, `bits=9: …`, which is the last part of the config path
            field = _FIELD.match(str(error))
            separator = "." if field and field[1] in named else ": "
            return self._problem(f"{path}{separator if path else ''}{error}")

    def _grouped(self, value: Any, hint: Any, path: str) -> Any:
        """The value, groups without ``_target_`` in it called as the dataclasses that `hint` asks for, and
        the name of a callable, where `hint` asks for one, as what it names."""
        if get_origin(hint) in (Union, UnionType):  # X | None
            (hint, *others) = [member for member in get_args(hint) if member is not NoneType]
            hint = Any if others else hint
        if isinstance(value, str) and (hint is Callable or get_origin(hint) is Callable):
            return self._located(value, path)
        if not isinstance(value, Mapping):
            return value
        if is_dataclass(hint):
            return self._call(hint, value, path)  # type: ignore[arg-type]
        if get_origin(hint) in (dict, Mapping):
            item = get_args(hint)[1]
            built = {key: self._grouped(each, item, f"{path}.{key}") for key, each in value.items()}
            return _FAILED if _any_failed(built.values()) else built
        return value


def _keys(component: Callable[..., Any]) -> frozenset[str] | None:
    """The names of its arguments, None where it takes any."""
    parameters = inspect.signature(component).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)


def _any_failed(values: Iterable[Any]) -> bool:
    return any(value is _FAILED for value in values)


def _missing(path: str) -> str:
    return f"{path}: mandatory value missing; give {path}=…"


def _no_name(path: str) -> str:
    return (
        f"{path}: the key is read as a number with a fraction or a truth value, and not as it is "
        "written: 1.10 would be 1.1. Remedy: quote it in a file ('1.10'), or write ? for a dot: {1?10: …}"
    )


def _options(name: str, valid: Any) -> str:
    return alternatives(name, (str(key) for key in valid))


def _raw(parent: Any, key: str | int) -> Any:
    """The value as written: a reference is not followed."""
    return OmegaConf.to_container(parent, resolve=False)[key]  # type: ignore[index]


def _hints(component: Callable[..., Any]) -> dict[str, Any]:
    source = component if is_dataclass(component) or not inspect.isclass(component) else component.__init__
    return get_type_hints(source)
