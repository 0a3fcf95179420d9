"""What one source file says that it imports and reads. See `pipeline.store.imports` for what counts."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

FILES = ("files", "PackageLoader", "get_data", "open_binary", "open_text", "read_binary", "read_text")
"""Functions of `importlib.resources`, `pkgutil` and jinja2 that read a package's files, named first."""

_SPECIAL = ("import_module", "__import__", "__path__", "__file__", *FILES)


@dataclass(frozen=True, kw_only=True)
class Statements:
    """What one module imports and reads, all names absolute.

    Args:
        modules: of ``import a.b``, and of `import_module` with a name written out.
        names: of ``from a.b import c, d``: the module, and what is taken from it.
        packages: all of whose modules may be imported.
        reads: packages whose other files are read.
        on_demand: where ``__getattr__`` loads names: the module of each that ``if TYPE_CHECKING`` imports;
            None where there is no ``__getattr__``.
    """

    modules: frozenset[str] = frozenset()
    names: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
    packages: frozenset[str] = frozenset()
    reads: frozenset[str] = frozenset()
    on_demand: Mapping[str, str] | None = None


def read(source: bytes, package: str) -> Statements:
    """The statements of a module in `package`; none where the source is not Python of this version."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Statements()
    on_demand = _on_demand(tree, package)
    # ``__getattr__`` runs for a name that is asked for, not when the module is imported
    tree.body = [node for node in tree.body if on_demand is None or not _is_getattr(node)]
    modules: set[str] = set()
    names: set[tuple[str, tuple[str, ...]]] = set()
    called: dict[str, str] = {}  # what local names stand for
    for node in _imports(tree.body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                modules.add(alias.name)
                top = alias.name.partition(".")[0]
                called |= {alias.asname: alias.name} if alias.asname else {top: top}
        else:
            module = _absolute(node.module or "", node.level, package)
            names.add((module, tuple(alias.name for alias in node.names)))
            called |= {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    packages: set[str] = set()
    reads: set[str] = set()
    if any(word.encode() in source for word in _SPECIAL):
        for expression in ast.walk(tree):
            _look(expression, package, called, modules, packages, reads)
    return Statements(
        modules=frozenset(modules),
        names=frozenset(names),
        packages=frozenset(packages),
        reads=frozenset(reads),
        on_demand=on_demand,
    )


def _imports(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """All that run, in functions too; expressions are not looked into."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and _type_checking(node.test):
            yield from _imports(node.orelse)
        elif isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from _imports(getattr(node, part, ()))


def _on_demand(tree: ast.Module, package: str) -> dict[str, str] | None:
    if not any(_is_getattr(node) for node in tree.body):
        return None
    return {
        alias.asname or alias.name: _absolute(node.module or "", node.level, package)
        for block in tree.body
        if isinstance(block, ast.If) and _type_checking(block.test)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _is_getattr(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__getattr__"


def _type_checking(test: ast.expr) -> bool:
    return _dotted(test).rpartition(".")[2] == "TYPE_CHECKING"


def _look(
    node: ast.AST,
    package: str,
    called: Mapping[str, str],
    modules: set[str],
    packages: set[str],
    reads: set[str],
) -> None:
    """Take from one expression what no import statement says."""
    if isinstance(node, ast.Attribute) and node.attr == "__path__":
        first, dot, rest = _dotted(node.value).partition(".")
        packages.add(called.get(first, first) + dot + rest)
    elif isinstance(node, ast.Name) and node.id == "__path__":
        packages.add(package)
    elif isinstance(node, ast.Name) and node.id == "__file__":
        reads.add(package)
    elif isinstance(node, ast.Call) and node.args:
        function = _dotted(node.func).rpartition(".")[2]
        beginning, whole = _text(node.args[0])
        if function in ("import_module", "__import__") and beginning:
            level = len(beginning) - len(beginning.lstrip("."))
            name = _absolute(beginning.lstrip("."), level, package)
            if whole:
                modules.add(name)
            elif "." in name:
                packages.add(name.rpartition(".")[0])
        elif function in FILES:
            reads.add(beginning if whole and beginning else package)


def _text(node: ast.expr) -> tuple[str, bool]:
    """How a text begins as far as it is written out, and whether that is all of it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value, True
    if isinstance(node, ast.JoinedStr) and node.values:
        return _text(node.values[0])[0], False
    if isinstance(node, ast.BinOp):
        return _text(node.left)[0], False
    return "", False


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _absolute(name: str, level: int, package: str) -> str:
    if level == 0:
        return name
    parts = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*parts, *([name] if name else [])])
