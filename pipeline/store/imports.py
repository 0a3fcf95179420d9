"""The code that a module runs by, read from the import statements, without running any of it.

A module's closure is the module, the packages around it, and all that these import, transitively: at the
top, in functions, in classes; under ``if TYPE_CHECKING`` only what `else` holds. It ends at the standard
library, and at installed distributions, which count by their version. What no import statement names:

- ``import_module("a.b")``: the module;
- ``import_module(f"a.b.{name}")``, and ``a.b.__path__``, as `pkgutil` takes it: every module of the package;
- ``__file__``, and ``files("a.b")`` or the like of resources: the files beside the package's code (sources in
  C++, templates), those of packages within it left out;
- ``from a import Name`` where ``a`` loads on demand, by a ``__getattr__`` of its own: the module from which
  its ``if TYPE_CHECKING`` imports the name; where that has no such name, every module of the package.

Sources are read once a process, as Python itself does.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.store.statements import Statements, read

INSTALLED = ("site-packages", "dist-packages")
"""Folders of installed distributions, by name."""


@dataclass(frozen=True, kw_only=True)
class Closure:
    """What a result depends on beside its inputs and settings.

    Args:
        code: sha256 by module, ``a.b.c``, and by file that a package reads, ``a/b/source/engine.cpp``.
        libraries: version by name, of installed distributions that the code imports.
    """

    code: dict[str, str]
    libraries: dict[str, str]


def closure(modules: Iterable[str], own: Collection[str]) -> Closure:
    """All that `modules` run by.

    Args:
        modules: by dotted name.
        own: top-level packages that count by their source even where they are installed.

    Raises:
        PipelineError: one of `modules` has no source file.
    """
    code: dict[str, str] = {}
    libraries: dict[str, str] = {}
    own = frozenset(own)
    waiting = sorted(set(modules))
    for name in waiting:
        if _found(name) is None:
            raise PipelineError(
                f"'{name}' is not a module with a source file, by which a result that it computes could be "
                "known again. Remedy: name (_target_, model.target) what a file of yours defines"
            )
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        if not _counts(name, own):
            libraries |= _library(name.partition(".")[0])
        elif _found(name) is not None:
            code |= _hashes(name)
            new = [needed for needed in _needs(name, own) if needed not in seen]
            seen.update(new)
            waiting += new
    return Closure(code=dict(sorted(code.items())), libraries=dict(sorted(libraries.items())))


def forget() -> None:
    """Read sources anew: for tests that change them within a process."""
    for memory in (_found, _installed, _library, _hashes, _needs, _statements):
        memory.cache_clear()


@dataclass(frozen=True)
class _Found:
    """A module's file, None for a package without ``__init__``; the folders of a package."""

    file: Path | None
    folders: tuple[Path, ...] = ()


@cache
def _found(name: str) -> _Found | None:
    """Where a module lies, by what is loaded, then as Python would look; nothing is imported."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return _as_found(getattr(loaded, "__file__", None), getattr(loaded, "__path__", ()))
    package, _, last = name.rpartition(".")
    if package:
        above = _found(package)
        beside = (_in_folder(folder, last) for folder in (above.folders if above else ()))
        return next((found for found in beside if found is not None), None)
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    return _as_found(spec.origin if spec.has_location else None, spec.submodule_search_locations or ())


def _in_folder(folder: Path, name: str) -> _Found | None:
    """A package, else a module, else a folder of modules, in Python's order."""
    package = folder / name
    if (package / "__init__.py").is_file():
        return _Found(package / "__init__.py", (package,))
    for suffix in (*EXTENSION_SUFFIXES, ".py"):
        if (file := folder / f"{name}{suffix}").is_file():
            return _Found(file)
    return _Found(None, (package,)) if package.is_dir() else None


def _as_found(file: str | None, folders: Iterable[str]) -> _Found | None:
    path = Path(file) if file and Path(file).is_file() else None
    found = _Found(path, tuple(map(Path, folders)))
    return found if found.file or found.folders else None


@cache
def _installed(top: str) -> bool:
    """Whether a top-level module is of Python or of an installed distribution, or is not there at all."""
    found = None if top in sys.stdlib_module_names else _found(top)
    if found is None:
        return True
    places = [found.file] if found.file else found.folders
    return any(name in place.parts for place in places for name in INSTALLED)


@cache
def _library(top: str) -> dict[str, str]:
    """The installed distribution that a top-level module is of, and its version; none for Python's own."""
    found = None if top in sys.stdlib_module_names else _found(top)
    if found is None:
        return {}
    try:
        return {top: version(top)}
    except PackageNotFoundError:  # another name, as pillow of PIL: the distribution that lists the file
        places = [found.file.parent, found.file.parent.parent] if found.file else []
        files = tuple(f"{top}{end},".encode() for end in ("/__init__.py", ".py"))
        records = (record for place in places for record in place.glob("*.dist-info/RECORD"))
        owners = (record.parent.stem for record in records if _lists(record.read_bytes(), files))
        return dict(owner.rsplit("-", 1) for owner in owners)


def _lists(record: bytes, files: tuple[bytes, ...]) -> bool:
    return record.startswith(files) or any(b"\n" + file in record for file in files)


@cache
def _statements(name: str) -> Statements:
    found = _found(name)
    if found is None or found.file is None or found.file.suffix != ".py":
        return Statements()
    package = name if found.folders else name.rpartition(".")[0]
    return read(found.file.read_bytes(), package)


@cache
def _hashes(name: str) -> dict[str, str]:
    """SHA-256 of a module's file, and of the files that it reads."""
    found = _found(name)
    hashes = {name: _sha256(found.file)} if found and found.file else {}
    for package in _statements(name).reads:
        for folder in getattr(_found(package), "folders", ()):
            for file in _beside(folder):
                hashes[f"{package.replace('.', '/')}/{file.relative_to(folder).as_posix()}"] = _sha256(file)
    return hashes


@cache
def _needs(name: str, own: frozenset[str]) -> tuple[str, ...]:
    """The modules that a module's import runs, or that it may import later; libraries by their top level."""
    statements = _statements(name)
    needed = {name.rpartition(".")[0], *statements.modules}
    for module, names in statements.names:
        needed.add(module)
        if not _counts(module, own):
            continue
        for wanted in names:
            if _found(f"{module}.{wanted}") is not None:
                needed.add(f"{module}.{wanted}")
            elif (homes := _statements(module).on_demand) is not None:
                needed |= {homes[wanted]} if wanted in homes else set(modules_of(module))
    for module in statements.modules:  # `import a.b`: any of its names may be asked for
        if _counts(module, own) and _statements(module).on_demand is not None:
            needed |= set(modules_of(module))
    for package in filter(lambda package: _counts(package, own), statements.packages):
        needed |= set(modules_of(package))
    tops = {module.partition(".")[0] for module in needed if not _counts(module, own)}
    needed = {module for module in needed if _counts(module, own)}
    around = {module[:end] for module in needed for end, letter in enumerate(module) if letter == "."}
    return tuple(sorted((tops | needed | around) - {"", name}))


def _counts(name: str, own: frozenset[str]) -> bool:
    """Whether a module counts by its source."""
    top = name.partition(".")[0]
    return top in own or not _installed(top)


def modules_of(package: str) -> Iterator[str]:
    """All modules within a package, itself included, by dotted name; none within a plain module."""
    for folder in getattr(_found(package), "folders", ()):
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _beside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path
        elif path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from _beside(path)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
