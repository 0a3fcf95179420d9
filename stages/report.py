"""Stage *report*: one self-contained page on what was chosen, what it cost, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import ParityError
from pipeline.stage import Inputs
from stages.artifacts import Metrics, Observations, QuantizedModel
from stages.quant.quantizers.base import WeightsAndActivations
from stages.reporting.page import render
from stages.reporting.settings import read_settings
from stages.reporting.summary import CLOSING_COLUMNS, closing_table
from stages.verify import Verify


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write ``report.html`` and ``plots/*.svg`` to the run directory, and show the closing table.

    Args:
        contract: the run's *verify* stage, whose verdict the page gives before that stage acts on it;
            None where the run has none.
        quantizer: the chosen schemes, of which page and table say whether integer kernels compute them.
    """

    name: ClassVar[str] = "report"
    consumes: ClassVar[tuple[type, ...]] = (Observations, QuantizedModel, Metrics)
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    contract: Verify | None = field(default_factory=Verify)
    quantizer: WeightsAndActivations | None = None

    def check(self) -> None:
        """Nothing can be known to fail."""

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Render, write, record."""
        metrics: Metrics = inputs[Metrics]
        kernel = None if self.quantizer is None else self.quantizer.integer_kernel
        rendered = render(
            inputs[Observations],
            inputs[QuantizedModel],
            metrics,
            settings=read_settings(ctx.run_dir),
            date=datetime.now().astimezone(),
            contract=self._demands(),
            broken=self._broken(ctx, metrics),
            integer_kernel=kernel,
        )
        page, plots = ctx.run_dir / "report.html", ctx.run_dir / "plots"
        page.write_text(rendered.page, encoding="utf-8")
        plots.mkdir(exist_ok=True)
        for name, drawing in rendered.plots.items():
            (plots / f"{name}.svg").write_text(drawing, encoding="utf-8")
        ctx.tracker.artifact(page)
        ctx.tracker.artifact(plots)
        ctx.console.table("result", CLOSING_COLUMNS, closing_table(metrics, kernel))
        for note in metrics.notes:
            ctx.console.say(f"note: {note}")

    def _demands(self) -> str:
        if self.contract is None:
            return ""
        demands = []
        if self.contract.min_agreement > 0.0:
            demands.append(f"agreement of at least {self.contract.min_agreement:.2%}")
        if self.contract.max_off_by is not None:
            demands.append(f"no level off by more than {self.contract.max_off_by}")
        return ", ".join(demands)

    def _broken(self, ctx: RunContext, metrics: Metrics) -> str | None:
        if self.contract is None:
            return None
        try:
            self.contract.run(ctx, {Metrics: metrics})
        except ParityError as refusal:
            return str(refusal)
        return None
