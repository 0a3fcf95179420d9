"""Stage *load*: an integer program that is there, in the place of all stages that would make one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from pipeline.artifact import Artifact
from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs, Stage
from stages.artifacts import IntegerProgram
from stages.data.base import Data
from stages.integer.bounds import check_accumulators
from stages.integer.files import program_files
from stages.models.base import Model, fingerprint_of, program_of
from stages.tasks.base import Task, require_fit
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Load:
    """Read the program that a run left.

    Args:
        program: the folder that a run left as ``program/``, relative to the folder the command starts in.
    """

    name: ClassVar[str] = "load"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type[Artifact] | None] = IntegerProgram
    cacheable: ClassVar[bool] = True
    instead: ClassVar[bool] = True

    program: str

    def check(self) -> None:
        """`fingerprint` has found the files."""

    def fingerprint(self) -> str:
        """The sha256 of the program's files. Raises `PipelineError` where one is missing."""
        digest = hashlib.sha256()
        for name in program_files(Path(self.program)):
            try:
                digest.update(hashlib.sha256((Path(self.program) / name).read_bytes()).digest())
            except OSError as error:
                raise PipelineError(
                    f"program={self.program}: no {name} there ({error.strerror}); name the program/ folder "
                    "that a run left"
                ) from error
        return digest.hexdigest()

    def run(self, ctx: RunContext, inputs: Inputs) -> IntegerProgram:
        """Read and check it."""
        try:
            return IntegerProgram.load(self.program)
        except ValueError as error:
            raise PipelineError(f"program={self.program}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Import:
    """Take the program that a model is, as of a quantized file.

    Args:
        model: gives it.
        data: what it is measured on.
        task: what its outputs mean.
    """

    name: ClassVar[str] = "load"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type[Artifact] | None] = IntegerProgram
    cacheable: ClassVar[bool] = True
    instead: ClassVar[bool] = True

    model: Model
    data: Data
    task: Task = field(default_factory=Classification)

    def check(self) -> None:
        """Raise for data or a task that the program is not made for."""
        self.data.check()
        program = self._program().program
        shape = tuple(program.values[program.input].shape)
        if tuple(self.data.shape) != shape:
            raise PipelineError(
                f"model: takes samples of {list(shape)}, and the data's are {list(self.data.shape)}. "
                "Remedy: data of that shape (data=…)"
            )
        outputs, split = tuple(program.values[program.output].shape), self.data.test()
        require_fit(self.task, outputs, self.data.num_classes, np.asarray(split.labels))

    def fingerprint(self) -> str:
        """The model's."""
        return fingerprint_of(self.model)

    def run(self, ctx: RunContext, inputs: Inputs) -> IntegerProgram:
        """Read it, with the proof that 32 bits hold its sums."""
        return self._program()

    def _program(self) -> IntegerProgram:
        program = program_of(self.model)
        if program is None:
            raise PipelineError("model: holds no integer program")
        try:
            check_accumulators(program)
        except ValueError as error:
            raise PipelineError(f"model: {error}") from error
        return IntegerProgram(program=program)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """The stage where there is a program: in a folder, or as the run's model; else none.

    Args:
        program: the folder of a program that a run left; None for none.
        model: the run's.
        data: the run's.
        task: the run's.
    """

    program: str | None = None
    model: Model | None = None
    data: Data | None = None
    task: Task = field(default_factory=Classification)

    def stages(self) -> Sequence[Stage]:
        """One or none."""
        if self.program is not None:
            return [Load(program=self.program)]
        if self.model is None or self.data is None or program_of(self.model) is None:
            return []
        return [Import(model=self.model, data=self.data, task=self.task)]
