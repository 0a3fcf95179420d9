"""Stage *rounding*: what each way to requantize costs, on the same weights and samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import IntegerProgram, Roundings
from stages.backends.base import Backend, what_ran
from stages.data.base import Data
from stages.measuring.accuracy import compared_batches
from stages.measuring.forms import check_backend, prepare
from stages.measuring.rounding import ModeComparison
from stages.tasks.base import Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class CompareRoundings:
    """Run some of the samples that *evaluate* takes in every requantization mode.

    Args:
        data: the data set whose test split is used.
        backend: executor of the integer program; where it is not exact, the reference runs.
        samples: how many test samples *evaluate* takes; None for all.
        parity_samples: how many of them are compared.
        batch_size: most samples at a time.
        task: what the outputs mean.
    """

    name: ClassVar[str] = "rounding"
    consumes: ClassVar[tuple[type, ...]] = (IntegerProgram,)
    produces: ClassVar[type] = Roundings
    cacheable: ClassVar[bool] = True

    data: Data
    backend: Backend
    samples: int | None = None
    parity_samples: int = 256
    batch_size: int = 64
    task: Task = field(default_factory=Classification)

    def check(self) -> None:
        """Raise where the data is missing, or what the backend needs."""
        self.data.check()
        check_backend(self.backend)

    def run(self, ctx: RunContext, inputs: Inputs) -> Roundings:
        """Count equal levels and right answers of each mode."""
        program = inputs[IntegerProgram].program
        executable, _ = prepare(program, self.backend, self.data)
        comparison = ModeComparison(program, self.backend, self.task)
        for x, labels in compared_batches(
            self.data,
            samples=self.samples,
            compared=self.parity_samples,
            batch_size=self.batch_size,
            seed=ctx.seed,
            console=ctx.console,
            description="comparing roundings",
        ):
            comparison.update(x.numpy(), labels.numpy())
        return comparison.roundings(what_ran(self.backend, executable).exact)
