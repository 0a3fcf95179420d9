"""The page and the plots, from artifacts to text. Self-contained: style, script and drawings are inline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stages.artifacts import (
    IntegerProgram,
    Metrics,
    NarrowedLayer,
    Observations,
    Parity,
    QuantizedModel,
    Roundings,
    RuntimeComparison,
    Speeds,
    Verdict,
)
from stages.reporting import summary, text
from stages.reporting.activations import panel, panels, sparkline
from stages.reporting.compression import compression_table, narrowed_table
from stages.reporting.confusion import confusion_plot, prediction_changes
from stages.reporting.errors import error_plot
from stages.reporting.layers import Layer, layer_table
from stages.reporting.runtimes import runtime_columns, runtime_notes, runtime_table
from stages.reporting.samples import ChangedSample
from stages.reporting.settings import Settings
from stages.reporting.summary import CLOSING_COLUMNS, closing_table
from stages.reporting.weights import weight_plot, weight_ranges
from stages.tasks.base import Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """What a run produced, as far as it did: one artifact a field."""

    metrics: Metrics
    observations: Observations | None = None
    model: QuantizedModel | None = None
    program: IntegerProgram | None = None
    speeds: Speeds | None = None
    parity: Parity | None = None
    roundings: Roundings | None = None
    runtimes: RuntimeComparison | None = None
    verdict: Verdict | None = None
    narrowed: tuple[NarrowedLayer, ...] = ()
    task: Task = field(default_factory=Classification)
    classes: tuple[str, ...] | None = None
    changed: Callable[[], tuple[ChangedSample, ...]] = tuple
    """The samples on which float and integers differ; asked for where there are some."""

    @property
    def integer_kernels(self) -> bool | None:
        """Whether integer kernels compute the network; None where nothing that tells was given.

        Activations without quantization parameters are float, and have none.
        """
        if self.program is not None:
            return True
        return None if self.model is None else bool(self.model.quantized.activations)

    def values(self) -> dict[str, float]:
        """All figures, flat name to number."""
        measured = (self.metrics, self.speeds, self.parity, self.roundings, self.runtimes)
        return {name: v for item in measured if item is not None for name, v in item.metrics().items()}


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The page, and each plot as an SVG document of its own, by name."""

    page: str
    plots: Mapping[str, str]


def render(run: RunResults, *, settings: Settings, date: datetime) -> Rendered:
    """Draw everything once, for the page and for the files.

    Args:
        run: what it produced.
        settings: what was run.
        date: when.
    """
    traced = [one for one in run.runtimes.results if one.layers] if run.runtimes is not None else []
    layers = layer_table(run.observations, run.model, run.program, run.parity, traced)
    changes = prediction_changes(run.metrics.predictions, run.classes)
    values = run.values()
    drawings = {
        "activations": panels(layers) if layers else Markup(),
        "errors": error_plot(layers),
        "weights": Markup() if run.model is None else weight_plot(weight_ranges(run.model.quantized)),
        "confusion": Markup() if changes is None or not changes.changed else confusion_plot(changes),
    }
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            settings=settings,
            date=date,
            verdict=run.verdict,
            notes=run.metrics.notes,
            columns=CLOSING_COLUMNS,
            closing=closing_table(values, run.integer_kernels, run.task),
            values=values,
            speeds=run.speeds,
            layers=layers,
            roundings=() if run.roundings is None else run.roundings.costs,
            traced=[one.name for one in traced],
            runtime_columns=() if run.runtimes is None else runtime_columns(run.task, run.runtimes),
            runtimes=() if run.runtimes is None else runtime_table(run.task, run.runtimes),
            runtime_notes=() if run.runtimes is None else runtime_notes(run.runtimes),
            compression=compression_table(run.program),
            narrowed=narrowed_table(run.narrowed),
            changes=changes,
            changed=run.changed() if changes is not None and changes.changed else (),
            recorded=bool(run.metrics.predictions),
            decision=run.task.decision,
            quality=run.task.batched,
            show=summary.shown(run.task.batched),
            drawings=drawings,
            sqnr_share=_sqnr_shares(layers),
            int16=_int16_layers(layers),
        )
    )
    return Rendered(page=page, plots={name: _document(d) for name, d in drawings.items() if d})


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("stages.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "significant": text.significant,
        "percent": text.percent,
        "points": text.points,
        "decibels": text.decibels,
        "count": text.count,
        "level": text.level,
        "shorten": text.shorten,
        "panel": panel,
        "sparkline": sparkline,
    }
    return environment


def _document(drawing: Markup) -> str:
    """A drawing as a file: with its name space and style."""
    style = (files("stages.reporting") / "templates" / "plots.css").read_text(encoding="utf-8")
    opening, _, rest = drawing.partition(">")
    return f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


def _int16_layers(layers: tuple[Layer, ...]) -> tuple[int, int] | None:
    """How many layers' accumulators 16 bits would hold, and of how many; None where there are none."""
    bits = [layer.accumulator_bits for layer in layers if layer.accumulator_bits is not None]
    return (sum(n <= 16 for n in bits), len(bits)) if bits else None


def _sqnr_shares(layers: tuple[Layer, ...]) -> dict[str, float]:
    """The length of each layer's bar in the table, 0..1 of the greatest finite SQNR."""
    known = {layer.name: layer.sqnr_db for layer in layers if layer.sqnr_db is not None}
    most = max((v for v in known.values() if math.isfinite(v)), default=0.0)
    return {name: min(max(v / most, 0.0), 1.0) if most > 0.0 else 0.0 for name, v in known.items()}
