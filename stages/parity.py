"""Stage *parity*: float, simulation, reference and backend side by side, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import IntegerProgram, Parity, QuantizedModel
from stages.backends.base import Backend
from stages.backends.reference import Reference
from stages.data.base import Data
from stages.measuring.accuracy import compared_batches
from stages.measuring.forms import check_backend, prepare
from stages.measuring.parity import LayerComparison
from stages.tasks.base import Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class CompareLayers:
    """Count how far the levels lie apart at every layer, on some of the samples that *evaluate* takes.

    Args:
        data: the data set whose test split is used.
        backend: executor of the integer program.
        samples: how many test samples *evaluate* takes; None for all.
        parity_samples: how many of them are compared.
        batch_size: most samples at a time.
        task: what the outputs mean.
    """

    name: ClassVar[str] = "parity"
    consumes: ClassVar[tuple[type, ...]] = (IntegerProgram,)
    optional: ClassVar[tuple[type, ...]] = (QuantizedModel,)
    produces: ClassVar[type] = Parity
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

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

    def run(self, ctx: RunContext, inputs: Inputs) -> Parity:
        """Compare; ``parity/max_off_by`` is between simulation and integers."""
        program = inputs[IntegerProgram].program
        model: QuantizedModel | None = inputs.get(QuantizedModel)
        executable, _ = prepare(program, self.backend, self.data)
        reference = None if executable.name == "reference" else Reference().compile(program)
        comparison = LayerComparison(
            program, executable, reference, None if model is None else model.quantized, self.task
        )
        for x, _ in compared_batches(
            self.data,
            samples=self.samples,
            compared=self.parity_samples,
            batch_size=self.batch_size,
            seed=ctx.seed,
            console=ctx.console,
            description="comparing layers",
        ):
            comparison.update(x)
        return comparison.parity()
