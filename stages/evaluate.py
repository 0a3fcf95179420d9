"""Stage *evaluate*: the accuracy of whatever forms of the network are there, on the same test samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import Baseline, IntegerProgram, Metrics, QuantizedModel
from stages.backends.base import EXACT, Backend, Executable, Tolerance
from stages.data.base import Data, class_names
from stages.graph.cost import operations, program_multiply_accumulates
from stages.integer.program import Program
from stages.measuring.accuracy import figures, outputs_of, sample_ids
from stages.measuring.doubts import doubts
from stages.measuring.forms import Form, check_backend, integer_form, prepare, simulated_form
from stages.tasks.base import Outputs, Targets, Task, require_fit
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Run test samples through the quantized forms of the network, and compare them with float's outputs.

    A program alone is enough: what is not there is not measured.

    Args:
        data: the data set whose test split is used.
        backend: executor of the integer program; None where there is no program.
        samples: how many test samples, drawn by the run's seed; None for all.
        batch_size: samples at a time.
        task: what the outputs mean.
    """

    name: ClassVar[str] = "evaluate"
    consumes: ClassVar[tuple[type, ...]] = ()
    optional: ClassVar[tuple[type, ...]] = (Baseline, QuantizedModel, IntegerProgram)
    produces: ClassVar[type] = Metrics
    cacheable: ClassVar[bool] = True

    data: Data
    backend: Backend | None = None
    samples: int | None = None
    batch_size: int = 256
    task: Task = field(default_factory=Classification)

    def check(self) -> None:
        """Raise where the data is missing, or what the backend needs."""
        self.data.check()
        check_backend(self.backend)

    def run(self, ctx: RunContext, inputs: Inputs) -> Metrics:
        """Measure; see DESIGN's list of metric names."""
        baseline: Baseline | None = inputs.get(Baseline)
        model: QuantizedModel | None = inputs.get(QuantizedModel)
        integers: IntegerProgram | None = inputs.get(IntegerProgram)
        forms: dict[str, Form] = {}
        program = None if integers is None else integers.program
        if (simulated := simulated_form(model, program)) is not None:
            forms["simulated"] = simulated
        backend, tolerance = "", EXACT
        notes: tuple[str, ...] = (
            "backend=simulation: no integers were run; all figures are the simulation's",
        )
        if program is not None:
            executable, tolerance = prepare(program, self.backend, self.data)
            if not (self.task.single or tolerance.exact):
                tolerance = replace(tolerance, min_agreement=0.0)
            forms["integer"] = integer_form(executable, program)
            backend, notes = executable.name, _notes(executable, program, tolerance, model)

        split = self.data.test()
        ids = sample_ids(split, self.samples, ctx.seed) if baseline is None else baseline.sample_ids
        labels = np.asarray(split.labels)[ids]
        if program is not None:  # one that was loaded has not been checked
            shape = program.values[program.output].shape
            require_fit(self.task, shape, self.data.num_classes, np.asarray(split.labels))
        outputs = {} if baseline is None else {"float": baseline.outputs}
        outputs |= outputs_of(forms, self.data, split, ids, self.batch_size, ctx.console)
        values = {**figures(self.task, outputs, labels), "test/samples": float(len(ids))}
        values |= {**(baseline.values if baseline else {}), **(integers.metrics() if integers else {})}
        if program is not None:
            values["model/integer_macs"] = float(program_multiply_accumulates(program))
        if {"model/float_bytes", "model/integer_bytes"} <= set(values):
            values["model/compression"] = values["model/float_bytes"] / values["model/integer_bytes"]
            values["model/file_compression"] = values["model/float_bytes"] / values["model/file_bytes"]
        return Metrics(
            values=values,
            predictions={"labels": labels, **{n: self.task.decisions(own) for n, own in outputs.items()}},
            notes=(*notes, *_ties(self.task, outputs), *self._doubts(outputs, labels)),
            backend=backend,
            tolerance=tolerance,
        )

    def _doubts(self, outputs: Mapping[str, Outputs], labels: Targets) -> tuple[str, ...]:
        """What the float network's classes say about the data; of what was quantized, nothing."""
        if self.task.name != Classification.name or "float" not in outputs:
            return ()
        return doubts(outputs["float"], labels, class_names(self.data))


def _notes(
    executable: Executable, program: Program, tolerance: Tolerance, model: QuantizedModel | None
) -> tuple[str, ...]:
    notes = tuple(executable.notes)
    if not tolerance.exact:
        levels = "a level" if tolerance.off_by == 1 else f"{tolerance.off_by} levels"
        least = f"{tolerance.min_agreement:.0%} of the samples have to agree"
        if tolerance.min_agreement == 0.0:
            least = "no agreement is promised (evaluate.min_agreement demands one)"
        notes += (f"{tolerance.reason}: an operator may differ by {levels} from the simulation, and {least}",)
    if grouped := [op.output for op in program.ops if op.op in ("group_conv2d", "group_linear")]:
        notes += (f"scales of groups have reference kernels only: {', '.join(grouped)}",)
    if islands := [op.output for op in program.ops if op.op == "island" or op.op.startswith("float_")]:
        share = "" if model is None else f", {_share(model, islands):.1%} of all operations"
        notes += (f"computed in float, between integers{share}: {', '.join(islands)}",)
    return notes


def _share(model: QuantizedModel, names: Sequence[str]) -> float:
    """Part of a network's operations that some of its values take."""
    counts = operations(model.quantized.graph)
    return sum(counts.get(name, 0) for name in names) / max(1, sum(counts.values()))


def _ties(task: Task, outputs: dict[str, Outputs]) -> tuple[str, ...]:
    tied = task.tied(outputs["integer"]) if "integer" in outputs else None
    if tied is None or not (count := int(tied.sum())):
        return ()
    return (
        f"{task.decision} of {count} of {len(tied)} samples is tied between classes in integers; the lowest "
        "counts",
    )
