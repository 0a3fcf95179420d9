"""Stage *describe*: what the program's input and outputs mean, beside the program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel, IntegerProgram
from stages.data.base import Data
from stages.data.description import Description
from stages.tasks.base import Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Describe:
    """Write ``program/preprocessing.json``: shape, mean, std, names of the classes, the task.

    Args:
        data: the data set that the program was made for.
        task: what its outputs mean.
    """

    name: ClassVar[str] = "describe"
    consumes: ClassVar[tuple[type, ...]] = ()
    # a float network alone is no mistake: a run may end before its conversion
    optional: ClassVar[tuple[type, ...]] = (IntegerProgram, FloatModel)
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    data: Data
    task: Task = field(default_factory=Classification)

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Write it into the folder that the program's files are in; nothing where there is no program."""
        if inputs.get(IntegerProgram) is None:
            return
        folder = ctx.run_dir / "program"
        folder.mkdir(exist_ok=True)
        Description.of(self.data, self.task.name).save(folder)
