"""What a module runs by, read from small trees of files."""

from __future__ import annotations

import itertools
import sys
import textwrap
from importlib.metadata import version

import pytest

from pipeline.errors import PipelineError
from pipeline.store.imports import closure, forget, modules_of

_numbers = itertools.count()


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Write files of a package of a new name; `{p}` in them is that name."""
    package = f"imported_{next(_numbers)}"
    monkeypatch.syspath_prepend(str(tmp_path))

    class Tree:
        name = package

        def write(self, **files):
            for name, text in files.items():
                path = tmp_path / package / (name.replace("__", "/") + ".py")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(textwrap.dedent(text).replace("{p}", package))

        def file(self, name, text=""):
            path = tmp_path / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

        def code(self, module):
            """Names of the package's modules and files, without the package's name."""
            forget()
            return {name[len(package) + 1 :] for name in closure([f"{package}.{module}"], ()).code}

        def hashes(self, module):
            forget()
            return closure([f"{package}.{module}"], ()).code

    tree = Tree()
    tree.file("__init__.py")
    yield tree
    forget()


def test_imports_count_transitively_wherever_they_stand(tree):
    tree.write(
        a="""
            import {p}.b
            def f():
                from {p} import c
            class C:
                from . import d
            try:
                from .e import thing
            except ImportError:
                from .f import thing
            match 1:
                case 1:
                    import {p}.g as other
            with open("x"):
                for i in []:
                    pass
                else:
                    import {p}.h
        """,
        b="from .deep import i", c="", d="", e="", f="", g="", h="", unused="",
    )  # fmt: skip
    tree.file("deep/__init__.py", "from .. import j")
    tree.file("deep/i.py")
    tree.file("j.py")
    assert tree.code("a") == {"", "a", "b", "c", "d", "deep", "deep.i", "e", "f", "g", "h", "j"}


def test_what_is_imported_for_typing_only_does_not_count(tree):
    tree.write(
        a="""
            import typing
            from typing import TYPE_CHECKING
            if TYPE_CHECKING:
                from .b import B
            else:
                from .c import B
            if typing.TYPE_CHECKING:
                from .d import D
        """,
        b="", c="", d="",
    )  # fmt: skip
    assert tree.code("a") == {"", "a", "c"}


def test_packages_around_a_module_run_when_it_is_imported(tree):
    tree.file("__init__.py", "from . import patches")
    tree.write(patches="", a="")
    assert tree.code("a") == {"", "a", "patches"}


def test_a_circle_of_imports_ends(tree):
    tree.write(a="from . import b", b="from . import a")
    assert tree.code("a") == tree.code("b") == {"", "a", "b"}


@pytest.mark.parametrize(
    "source",
    [
        "import pkgutil, {p}.kinds\nfor m in pkgutil.iter_modules({p}.kinds.__path__): pass",
        "import pkgutil\nfrom {p} import kinds as k\nfor m in pkgutil.iter_modules(k.__path__): pass",
        "from importlib import import_module\nimport_module(f'{p}.kinds.{name}')",
        "import importlib\nimportlib.import_module('{p}.kinds.' + name)",
    ],
)
def test_modules_found_by_name_count_as_the_whole_package(tree, source):
    tree.file("kinds/__init__.py")
    tree.file("kinds/one.py", "from .. import needed")
    tree.file("kinds/deep/__init__.py")
    tree.file("kinds/deep/two.py")
    tree.write(a=source, needed="", unused="")
    assert tree.code("a") == {"", "a", "kinds", "kinds.one", "kinds.deep", "kinds.deep.two", "needed"}


def test_a_module_imported_by_a_literal_name_counts(tree):
    tree.write(a="import importlib\nimportlib.import_module('{p}.b')\n__import__('{p}.c')", b="", c="")
    assert tree.code("a") == {"", "a", "b", "c"}


LAZY = """
from importlib import import_module
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from .one import One
    from .two import Two as Second
def __getattr__(name):
    return getattr(import_module(f"{__name__}.{name}"), name)
"""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from {p}.lazy import One", {"lazy.one"}),
        ("from .lazy import Second", {"lazy.two"}),
        ("from .lazy.two import Two", {"lazy.two"}),
        ("from .lazy import Three", {"lazy.one", "lazy.two", "lazy.three"}),  # said nowhere: any of them
        ("import {p}.lazy", {"lazy.one", "lazy.two", "lazy.three"}),
    ],
)
def test_a_package_that_loads_on_demand_counts_by_what_is_asked_for(tree, source, found):
    tree.file("lazy/__init__.py", LAZY)
    for name in ("one", "two", "three"):
        tree.file(f"lazy/{name}.py")
    tree.write(a=source)
    assert tree.code("a") == {"", "a", "lazy"} | found


@pytest.mark.parametrize(
    "source",
    [
        "from pathlib import Path\nSOURCE = Path(__file__).parent / 'source'",
        "from importlib.resources import files\nfiles('{p}.engine')",
        "from jinja2 import PackageLoader\nPackageLoader('{p}.engine')",
    ],
)
def test_files_beside_the_code_count_where_it_reads_them(tree, source):
    tree.file("engine/__init__.py")
    tree.file("engine/source/main.cpp", "int a;")
    tree.file("engine/other/__init__.py")
    tree.file("engine/other/data.json", "{}")
    tree.file("engine/plain.py")
    tree.file("engine/run.py", source.replace("{p}", tree.name))
    prefix = f"{tree.name}/engine/source/main.cpp"
    before = tree.hashes("engine.run")
    assert prefix in before and not any(name.endswith("data.json") for name in before)
    assert prefix not in tree.hashes("engine.plain")
    tree.file("engine/source/main.cpp", "int b;")
    assert {name for name, text in tree.hashes("engine.run").items() if text != before[name]} == {prefix}


def test_libraries_count_by_version_and_are_not_looked_into(tree):
    tree.write(a="import os, json\nimport numpy.linalg\nfrom PIL import Image\nimport not_installed_here")
    found = closure([f"{tree.name}.a"], ())
    assert found.libraries == {"numpy": version("numpy"), "pillow": version("pillow")}
    assert set(found.code) == {tree.name, f"{tree.name}.a"}


def test_an_installed_package_counts_by_source_where_it_is_said_to_be_ones_own(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages" / "of_ones_own"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from . import helper")
    (folder / "helper.py").touch()
    monkeypatch.syspath_prepend(str(folder.parent))
    assert closure(["of_ones_own"], ()).code == {}
    assert set(closure(["of_ones_own"], ("of_ones_own",)).code) == {"of_ones_own", "of_ones_own.helper"}


def test_a_single_file_and_a_folder_without_init_are_found(tmp_path, monkeypatch):
    (tmp_path / "lonely_module.py").write_text("import lonely_folder.inner")
    (tmp_path / "lonely_folder").mkdir()
    (tmp_path / "lonely_folder" / "inner.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(closure(["lonely_module"], ()).code) == {"lonely_module", "lonely_folder.inner"}
    assert set(modules_of("lonely_folder")) == {"lonely_folder.inner"}


def test_nothing_is_imported(tree):
    tree.write(a="import {p}.b", b="raise SystemExit")
    assert tree.code("a") == {"", "a", "b"}
    assert not any(name.startswith(tree.name) for name in sys.modules)


def test_a_module_without_a_source_is_refused():
    with pytest.raises(PipelineError, match="'nowhere_at_all' is not a module with a source file"):
        closure(["nowhere_at_all"], ())
