"""One name has one meaning, and docstrings say what a thing is or does."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "stages")
FAULTY = re.compile(r"(of|none)\b", re.IGNORECASE)


def modules(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Each module's path from the root, and its tree."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def defined(tree: ast.Module) -> Iterator[str]:
    """Public classes and aliases of a module: ``class Name``, ``Name = …``; constants are in capitals.

    A module's own definitions stand at its top, or in an ``if`` or ``try`` there.
    """
    statements = list[ast.AST](tree.body)
    while statements:
        node = statements.pop()
        if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
            statements += ast.iter_child_nodes(node)
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (
            name for name in names if name[0].isupper() and (isinstance(node, ast.ClassDef) or _mixed(name))
        )


def _mixed(name: str) -> bool:
    return name != name.upper()


def said(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes, functions and attributes, with their lines."""
    for node in ast.walk(tree):
        for child in _body(node):
            value = child.value if isinstance(child, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield child.lineno, value.value


def _body(node: ast.AST) -> list[ast.stmt]:
    body = getattr(node, "body", [])  # of a lambda, an expression
    return body if isinstance(body, list) else []


def test_a_public_class_or_alias_is_defined_once():
    places = defaultdict(list)
    for path, tree in modules(*PACKAGES):
        for name in defined(tree):
            places[name].append(path)
    assert len(places) > 200
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_docstring_begins_with_of_or_none():
    begins = [
        f"{path}:{line}: {text}"
        for path, tree in modules(*PACKAGES, "tests")
        for line, text in said(tree)
        if FAULTY.match(text)
    ]
    assert begins == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("class Step: pass", ["Step"]),
        ("class ONNX: pass", ["ONNX"]),
        ("Step = int", ["Step"]),
        ("Step: TypeAlias = int", ["Step"]),
        ("if X:\n    Step = int\nelse:\n    class Call: pass", ["Call", "Step"]),
        ("try:\n    Step = int\nexcept E:\n    Call = int", ["Call", "Step"]),
        ("MODES = 1\nT = TypeVar('T')\nclass _Own: pass\ndef f():\n    Step = int\nfrom a import Step", []),
    ],
)
def test_the_walk_sees_definitions_and_nothing_else(source, names):
    assert sorted(defined(ast.parse(source))) == names


@pytest.mark.parametrize(
    ("text", "faulty"),
    [("Of a layer.", True), ("None.", True), ("Offsets.", False), ("Often so.", False)],
)
def test_what_a_docstring_may_begin_with(text, faulty):
    trees = [ast.parse(f'def f():\n    """{text}"""'), ast.parse(f'class A:\n    B = 1\n    """{text}"""')]
    for tree in trees:
        assert [bool(FAULTY.match(found)) for _, found in said(tree)] == [faulty]
