"""Stage *runtimes*: the run's program on other runtimes, beside our own integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs, Stage
from stages.artifacts import Baseline, IntegerProgram, RuntimeComparison
from stages.backends.base import Backend, Executable, what_ran
from stages.backends.reference import Reference
from stages.data.base import Data
from stages.exporters.exporter import REFUSED
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.integer.program import Program
from stages.measuring.accuracy import compared_batches, compared_ids
from stages.measuring.forms import check_backend, prepare
from stages.measuring.runtimes import RuntimeRun
from stages.tasks.base import Outputs, Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class CompareRuntimes:
    """Run the same samples on each runtime: the task's figures, agreement with our integers, differences.

    It runs every time: the versions of runtimes change, and time is measured.

    Args:
        runtimes: by the name that the user chose; None where an option is not chosen. Without any the
            configuration's entry is no stage.
        data: the data set whose test split is used.
        backend: what runs our integers; the reference does where it is not exact.
        samples: how many test samples *evaluate* takes; None for all.
        compared: how many of them each runtime gets.
        batch_size: most samples at a time.
        missing: a runtime that is not installed is refused before anything is computed, or ``named`` in the
            table.
        task: what the outputs mean.
    """

    name: ClassVar[str] = "runtimes"
    consumes: ClassVar[tuple[type, ...]] = (IntegerProgram,)
    optional: ClassVar[tuple[type, ...]] = (Baseline,)
    produces: ClassVar[type] = RuntimeComparison
    cacheable: ClassVar[bool] = False

    data: Data
    runtimes: Mapping[str, Backend | None] = field(default_factory=dict)
    backend: Backend | None = None
    samples: int | None = None
    compared: int = 256
    batch_size: int = 64
    missing: Literal["refused", "named"] = "refused"
    task: Task = field(default_factory=Classification)

    def stages(self) -> Sequence[CompareRuntimes]:
        """One for all runtimes, since they share the samples; none where none is chosen."""
        return [self] if self._chosen else []

    @property
    def _chosen(self) -> dict[str, Backend]:
        return {name: one for name, one in self.runtimes.items() if one is not None}

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """A run without a program."""
        if not any(stage.produces is IntegerProgram for stage in stages):
            yield (
                f"runtimes=[{','.join(self._chosen)}]: the run makes no integer program. Remedy: a backend "
                "that runs integers, as backend=native, or no runtimes"
            )

    def check(self) -> None:
        """Raise where the data is missing, or a runtime that may not be."""
        self.data.check()
        if self.missing == "named":
            return
        problems = []
        for name, backend in self._chosen.items():
            try:
                check_backend(backend)
            except PipelineError as error:
                problems.append(f"runtimes={name}: {error}")
        if problems:
            raise PipelineError(
                "\n".join([*problems, "(stages.runtimes.missing=named goes on without them)"])
            )

    def run(self, ctx: RunContext, inputs: Inputs) -> RuntimeComparison:
        """Compare; see `RuntimeComparison.metrics`."""
        program = inputs[IntegerProgram].program
        ours = self._exact(program)
        runs = [RuntimeRun(name, backend, program) for name, backend in self._chosen.items()]
        for one in runs:
            one.compile()
        outputs, labels, first = [], [], None
        for x, y in compared_batches(
            self.data,
            samples=self.samples,
            compared=self.compared,
            batch_size=self.batch_size,
            seed=ctx.seed,
            console=ctx.console,
            description=f"running on {', '.join(self._chosen)}",
        ):
            first = x.numpy()[:1] if first is None else first
            q = quantize_input(program, x.numpy())
            trace = ours.trace(q)
            outputs.append(dequantize_output(program, trace[program.output]))
            labels.append(y.numpy())
            for one in runs:
                one.update(q, trace)
        if first is None:
            raise PipelineError("runtimes: there are no test samples to run. Remedy: data with some")
        own, targets = np.concatenate(outputs), np.concatenate(labels)
        floats = self._floats(inputs.get(Baseline), ctx.seed)
        exported, refused = _exported(ctx.run_dir / "export")
        results = tuple(
            one.result(self.task, targets, own, x=first, exported=exported, reference=floats) for one in runs
        )
        taken = {one.export for one in results}
        return RuntimeComparison(
            results=results,
            own=self.task.figures(own, targets, floats),
            samples=len(own),
            decision=self.task.decision,
            exported={name: size for name, size in exported.items() if name not in taken},
            unwritten=refused,
        )

    def _exact(self, program: Program) -> Executable:
        """Our integers: the run's backend where it is exact, else the reference."""
        if self.backend is not None:
            executable, _ = prepare(program, self.backend, self.data)
            if program.requantize in what_ran(self.backend, executable).exact:
                return executable
        return Reference().compile(program)

    def _floats(self, baseline: Baseline | None, seed: int) -> Outputs | None:
        """The float network's outputs of the samples that are compared, where it was measured."""
        if baseline is None:
            return None
        ids = compared_ids(self.data.test(), self.samples, self.compared, seed)
        rows = {int(sample): row for row, sample in enumerate(baseline.sample_ids)}
        if not all(int(sample) in rows for sample in ids):
            return None
        return np.asarray(baseline.outputs)[[rows[int(sample)] for sample in ids]]


def _exported(folder: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes of the files that each export of the run wrote, and why it wrote none."""
    sizes: dict[str, int] = {}
    refused: dict[str, str] = {}
    for one in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (one / REFUSED).is_file():
            refused[one.name] = (one / REFUSED).read_text(encoding="utf-8").strip()
        elif one.is_dir():
            sizes[one.name] = sum(path.stat().st_size for path in one.rglob("*") if path.is_file())
    return sizes, refused
