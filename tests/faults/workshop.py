"""A real run in a child that may be killed, and what an undisturbed one gives to compare it with.

A process that has loaded torch once forks a child a run: it starts in milliseconds, so that hundreds of runs
can be disturbed. One thread, and one for all: a child has none of its parent's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import torch

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.disk import said_plainly
from pipeline.errors import PipelineError
from pipeline.runner import run_stages
from pipeline.stage import in_order
from pipeline.store.keys import identity
from pipeline.store.local import Store
from pipeline.sweeps.replay import differences
from pipeline.tracking.null import Null
from tests.composed import built

QUICK = (
    "tracking=none",
    "threads=1",
    "training.float.epochs=2",
    "correction=[equalize]",
    "calibration.samples=64",
    "evaluate.samples=90",
    "evaluate.parity_samples=20",
    "stages.speed=null",
)
QAT = ("training=qat_finetune", "training.finetune.recipe.epochs=2")


@dataclass
class Run:
    """A child: what it said, and how it ended."""

    pid: int
    pipe: int
    folder: Path
    output: Path
    stages: list[str] = field(default_factory=list)
    code: int | None = None

    def until(self, stage: str) -> bool:
        """Wait until `stage` begins to compute; False where the child ends before."""
        rest = b""
        while stage not in self.stages:
            part = os.read(self.pipe, 1)
            if not part:
                return False
            rest += part
            if rest.endswith(b"\n"):
                self.stages.append(rest.decode().strip())
                rest = b""
        return True

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Its exit code: 0, 1 for a refusal, 2 for any other error, or the negative signal."""
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
            os.close(self.pipe)
        return self.code

    def running(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                os.close(self.pipe)
        return self.code is None

    def text(self) -> str:
        return self.output.read_text()


class Workshop:
    """Runs of one configuration, and what they must give.

    Args:
        folder: where all of it lies.
        overrides: beside `QUICK`.
    """

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder = folder
        torch.set_num_threads(1)
        given = {line.partition("=")[0] for line in overrides}
        self.config = built(*(line for line in QUICK if line.partition("=")[0] not in given), *overrides)
        stages = in_order(self.config.stages)
        self.stages = [stage.name for stage in stages]
        for stage in stages:
            identity(stage, 1)  # what it imports is remembered, and found by every child
        self.seconds: dict[str, float] = {}
        self.store = folder / "store"
        start = time.perf_counter()
        run = self.start(self.store)
        begun = {}
        for stage in self.stages:
            run.until(stage)
            begun[stage] = time.perf_counter() - start
        if run.wait():
            raise RuntimeError(run.text())
        ends = [*list(begun.values())[1:], time.perf_counter() - start]
        self.seconds = {stage: end - begin for (stage, begin), end in zip(begun.items(), ends, strict=True)}
        self.program, self.metrics = _program(run.folder), _metrics(run.folder)

    def start(
        self, store: Path, prepare: Callable[[], None] = lambda: None, within: Path | None = None
    ) -> Run:
        """Fork a child that runs all stages over `store`; its folder lies in `within`, if that is given."""
        folder = Path(tempfile.mkdtemp(dir=within or self.folder, prefix="run-"))
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._child(folder, store, prepare, writer)
        os.close(writer)
        return Run(pid=pid, pipe=reader, folder=folder, output=self.folder / f"{folder.name}.txt")

    def wrong(self, run: Run) -> str:
        """What a run that ended well gave otherwise than the undisturbed one; empty for nothing."""
        if (found := _program(run.folder)) != self.program:
            return f"another program ({found[:8]})"
        differing = differences(self.metrics, _metrics(run.folder))
        return f"other figures: {sorted(differing)[:3]}" if differing else ""

    def copied(self, upto: str | None = None) -> Path:
        """A copy of the undisturbed run's store, without what stage `upto` and those after it made."""
        store = Path(tempfile.mkdtemp(dir=self.folder, prefix="store-"))
        shutil.copytree(self.store, store, dirs_exist_ok=True)
        if upto is not None:
            late = self.stages[self.stages.index(upto) :]
            for manifest in store.glob("*/*/manifest.json"):
                if json.loads(manifest.read_text())["stage"] in late:
                    shutil.rmtree(manifest.parent)
        return store

    def _child(self, folder: Path, store: Path, prepare: Callable[[], None], pipe: int) -> NoReturn:
        code = 2
        try:  # what it says lies on no disk that is full
            output = os.open(self.folder / f"{folder.name}.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = sys.stderr = os.fdopen(output, "w")  # pytest has put others in their place
            prepare()
            logging.getLogger("pipeline").addHandler(_Stages(pipe))
            logging.getLogger("pipeline").setLevel(logging.INFO)
            ctx = RunContext(
                run_dir=folder,
                seed=self.config.seed,
                device="cpu",
                tracker=Null(),
                store=Store(store, warn=lambda text: print(text, flush=True)),
                console=Console(quiet=True),
            )
            with said_plainly():
                run_stages(in_order(self.config.stages), ctx)
            code = 0
        except PipelineError as refusal:
            print(f"refused: {refusal}", flush=True)
            code = 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


class _Stages(logging.Handler):
    """Tells the parent which stage begins."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        if str(record.msg).startswith("stage %s: running") and isinstance(record.args, tuple):
            os.write(self._pipe, f"{record.args[0]}\n".encode())


def _program(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted((folder / "program").rglob("*")):
        digest.update(file.name.encode() + (file.read_bytes() if file.is_file() else b""))
    return digest.hexdigest()


def _metrics(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return metrics
