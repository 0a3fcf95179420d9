"""A small project of fake stages: numbers in, numbers out, and a file that counts what ran."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
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
from pipeline.store.local import Store
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


ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
defaults:
  - run_schema
  - tracking: none
  - _self_
  - override hydra/help: pipeline
  - override hydra/job_logging: pipeline
stages:
  make: {{_target_: stages.{0}.Make, value: 3}}
  square: {{_target_: stages.{0}.DoSquare}}
  add: {{_target_: stages.{0}.Add}}
  show: {{_target_: stages.{0}.Show}}
hydra:
  callbacks: {{sweep: {{_target_: pipeline.sweeps.callback.SweepCallback}}}}
  run: {{dir: "outputs/runs/day/${{now:%H-%M-%S-%f}}"}}
  sweep: {{dir: "outputs/sweeps/day/${{now:%H-%M-%S-%f}}", subdir: "${{hydra.job.num}}"}}
  job: {{name: pipeline, chdir: false}}
"""


class Project:
    """A folder to run the command line in, with a database of its own.

    The processes that it starts, and those that they start, find the fake stages as ``stages.<name>``.
    """

    def __init__(self, folder: Path, fakes: Fakes, database: Path) -> None:
        self.folder = folder
        self.fakes = fakes
        (folder / "conf").mkdir(parents=True)
        (folder / "conf" / "fake.yaml").write_text(CONFIG.format(fakes.module.__name__))
        (folder / "outputs").mkdir()
        shutil.copy(database, folder / "outputs" / "mlflow.db")
        startup = f"import stages; stages.__path__.append({str(fakes.folder)!r})"
        (fakes.folder / "sitecustomize.py").write_text(startup)
        self.command = [sys.executable, "-m", "pipeline", "--config-dir", "conf", "--config-name", "fake"]
        self.environment = os.environ | {"PYTHONPATH": f"{fakes.folder}{os.pathsep}{ROOT}"}

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, *overrides],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *overrides: str) -> tuple[int, str, str]:
        process = self.start(*overrides)
        stdout, stderr = process.communicate(timeout=250)
        assert "Traceback" not in stderr
        return process.returncode, stdout, stderr

    def runs(self) -> list[Path]:
        return sorted((self.folder / "outputs" / "runs" / "day").iterdir())

    def sweeps(self) -> list[Path]:
        return sorted((self.folder / "outputs" / "sweeps" / "day").iterdir())

    def recorded(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.folder / "outputs" / "mlflow.db") as database:
            return database.execute(f"SELECT {columns} FROM {table}").fetchall()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, to copy: creating its tables takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    code = f"from pipeline.tracking.mlflow_client import mlflow_client; mlflow_client('sqlite:///{path}')"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return path


@pytest.fixture
def project(tmp_path: Path, fakes: Fakes, database: Path) -> Project:
    return Project(tmp_path / "project", fakes, database)
