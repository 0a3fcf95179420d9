"""Stage *report*: one self-contained page on what was chosen, what it cost, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import (
    FloatModel,
    IntegerProgram,
    Metrics,
    Observations,
    Parity,
    QuantizedModel,
    Roundings,
    RuntimeComparison,
    Speeds,
    Verdict,
)
from stages.data.base import Data, class_names
from stages.measuring.accuracy import sample_ids
from stages.reporting.page import RunResults, render
from stages.reporting.runtimes import closing_runtimes, closing_title, runtime_notes
from stages.reporting.samples import ChangedSample, changed_samples
from stages.reporting.settings import read_settings
from stages.reporting.summary import CLOSING_COLUMNS, closing_table
from stages.reporting.text import markdown
from stages.tasks.base import Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write ``report.html`` and ``plots/*.svg`` to the run directory, and show the closing table.

    Args:
        task: what the outputs mean.
        data: the data set that was evaluated: names of classes, and pictures of samples on which float and
            integers differ; None leaves both out.
        samples: how many of its test samples were evaluated, drawn by the run's seed; None for all.
    """

    name: ClassVar[str] = "report"
    consumes: ClassVar[tuple[type, ...]] = (Metrics,)
    optional: ClassVar[tuple[type, ...]] = (
        Observations,
        QuantizedModel,
        IntegerProgram,
        Speeds,
        Parity,
        Roundings,
        RuntimeComparison,
        Verdict,
        FloatModel,
    )
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    task: Task = field(default_factory=Classification)
    data: Data | None = None
    samples: int | None = None

    def check(self) -> None:
        """Nothing can be known to fail."""

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Render, write, record."""
        run = RunResults(
            metrics=inputs[Metrics],
            observations=inputs.get(Observations),
            model=inputs.get(QuantizedModel),
            program=inputs.get(IntegerProgram),
            speeds=inputs.get(Speeds),
            parity=inputs.get(Parity),
            roundings=inputs.get(Roundings),
            runtimes=inputs.get(RuntimeComparison),
            verdict=inputs.get(Verdict),
            narrowed=() if (network := inputs.get(FloatModel)) is None else network.narrowed,
            task=self.task,
            classes=None if self.data is None else class_names(self.data),
            changed=lambda: self._changed(inputs[Metrics], ctx.seed),
        )
        rendered = render(run, settings=read_settings(ctx.run_dir), date=datetime.now().astimezone())
        page, plots = ctx.run_dir / "report.html", ctx.run_dir / "plots"
        page.write_text(rendered.page, encoding="utf-8")
        plots.mkdir(exist_ok=True)
        for name, drawing in rendered.plots.items():
            (plots / f"{name}.svg").write_text(drawing, encoding="utf-8")
        ctx.tracker.artifact(page)
        ctx.tracker.artifact(plots)
        closing = closing_table(run.values(), run.integer_kernels, self.task)
        ctx.tracker.describe(markdown(CLOSING_COLUMNS, closing, run.metrics.notes))
        if self.data is not None:
            facts = {"samples": run.values().get("test/samples"), "shape": list(self.data.shape)}
            ctx.tracker.dataset(self.data.name, self.data.fingerprint(), facts)
        ctx.console.table("result", CLOSING_COLUMNS, closing)
        for note in run.metrics.notes:
            ctx.console.say(f"note: {note}")
        if run.runtimes is not None:
            columns, rows = closing_runtimes(run.task, run.runtimes)
            ctx.console.table(closing_title(run.runtimes), columns, rows)
            for note in runtime_notes(run.runtimes):
                ctx.console.say(f"note: {note}")

    def _changed(self, metrics: Metrics, seed: int) -> tuple[ChangedSample, ...]:
        if self.data is None:
            return ()
        split = self.data.test()
        rows = sample_ids(split, self.samples, seed)
        if len(rows) != len(metrics.predictions["labels"]):  # they are of other samples
            return ()
        return changed_samples(metrics.predictions, split.images, rows, class_names(self.data))
