"""A small project of fake stages: numbers in, numbers out, and a file that counts what ran."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console as RichConsole

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.store import Store
from pipeline.tracking.null import Null

STAGES = """
    import os
    import time
    from dataclasses import dataclass, field
    from pathlib import Path
    from typing import ClassVar

    import numpy as np

    from pipeline.errors import PipelineError


    class Number:
        kind = "number"

        def __init__(self, value):
            self.value = value

        def save(self, directory):
            (directory / "value.txt").write_text(repr(self.value))

        @classmethod
        def load(cls, directory):
            ran("load " + cls.kind)
            return cls(float((directory / "value.txt").read_text()))


    class Square(Number):
        kind = "square"

        def metrics(self):
            return {"square/value": self.value}


    class Sum(Number):
        kind = "sum"


    def ran(what):
        with open(os.environ["FAKE_LOG"], "a") as log:
            log.write(what + "\\n")


    @dataclass(frozen=True, kw_only=True)
    class Make:
        name: ClassVar[str] = "make"
        consumes: ClassVar[tuple] = ()
        produces: ClassVar[type] = Number
        code: ClassVar[tuple] = ()
        cacheable: ClassVar[bool] = True
        value: float = 3.0
        noise: bool = False
        threads: int = field(default=1, metadata={"key": False})

        def check(self):
            ran("check make")

        def run(self, ctx, inputs):
            ran("make")
            ctx.tracker.metrics({"make/loss": 0.5}, step=0)
            ctx.tracker.metrics({"make/loss": 0.25}, step=1)
            return Number(self.value + (np.random.rand() if self.noise else 0))


    @dataclass(frozen=True, kw_only=True)
    class DoSquare:
        name: ClassVar[str] = "square"
        consumes: ClassVar[tuple] = (Number,)
        produces: ClassVar[type] = Square
        code: ClassVar[tuple] = ()
        cacheable: ClassVar[bool] = True
        wait: float = 0.0
        refuse: bool = False
        noise: bool = False

        def check(self):
            ran("check square")
            if self.refuse:
                raise PipelineError("square refuses")

        def run(self, ctx, inputs):
            ran("square")
            time.sleep(self.wait)
            return Square(inputs[Number].value ** 2 + (np.random.rand() if self.noise else 0))


    @dataclass(frozen=True, kw_only=True)
    class Add:
        name: ClassVar[str] = "add"
        consumes: ClassVar[tuple] = (Number, Square)
        produces: ClassVar[type] = Sum
        code: ClassVar[tuple] = ()
        cacheable: ClassVar[bool] = True
        fail: str = ""

        def check(self):
            ran("check add")

        def run(self, ctx, inputs):
            ran("add")
            if self.fail == "error":
                raise PipelineError("add cannot go on")
            if self.fail == "interrupt":
                raise KeyboardInterrupt
            return Sum(inputs[Number].value + inputs[Square].value)


    @dataclass(frozen=True, kw_only=True)
    class Show:
        name: ClassVar[str] = "show"
        consumes: ClassVar[tuple] = (Sum,)
        produces: ClassVar[None] = None
        code: ClassVar[tuple] = ()
        cacheable: ClassVar[bool] = False

        def check(self):
            ran("check show")

        def run(self, ctx, inputs):
            ran("show")
            ctx.console.say(f"the sum is {inputs[Sum].value}")
"""


@dataclass
class Fakes:
    """The module of fake stages, and what its stages did since last asked."""

    module: ModuleType
    folder: Path
    log: Path

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def ran(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


_numbers = itertools.count()


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    """The fake stages as an importable module of a name never used before."""
    name = f"fake_stages_{next(_numbers)}"
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / f"{name}.py").write_text(textwrap.dedent(STAGES))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "ran.log"))
    module = __import__(name)
    yield Fakes(module=module, folder=folder, log=tmp_path / "ran.log")
    del sys.modules[name]


@pytest.fixture
def warnings() -> list[str]:
    """What the store of `context` warned of."""
    return []


@pytest.fixture
def context(tmp_path: Path, warnings: list[str]) -> Callable[..., RunContext]:
    """Makes a run's context: same store, a run directory of its own."""
    runs = itertools.count()

    def make(**changes: Any) -> RunContext:
        run_dir = tmp_path / "runs" / str(next(runs))
        run_dir.mkdir(parents=True)
        values: dict[str, Any] = {
            "run_dir": run_dir,
            "seed": 0,
            "device": "cpu",
            "tracker": Null(),
            "store": Store(tmp_path / "store", reuse=changes.pop("reuse", True), warn=warnings.append),
            "console": Console(rich=RichConsole(file=(run_dir / "terminal.txt").open("w"))),
        }
        return RunContext(**(values | changes))

    return make
