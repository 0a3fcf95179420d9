"""The page and the plots, from artifacts to text. Self-contained: style, script and drawings are inline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stages.artifacts import Metrics, Observations, QuantizedModel
from stages.reporting import text
from stages.reporting.activations import panel, panels, sparkline
from stages.reporting.confusion import confusion_plot, prediction_changes
from stages.reporting.errors import error_plot
from stages.reporting.layers import Layer, layer_table
from stages.reporting.settings import Settings
from stages.reporting.summary import CLOSING_COLUMNS, closing_table
from stages.reporting.weights import weight_plot, weight_ranges


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The page, and each plot as an SVG document of its own, by name."""

    page: str
    plots: Mapping[str, str]


def render(
    observations: Observations,
    model: QuantizedModel,
    metrics: Metrics,
    *,
    settings: Settings,
    date: datetime,
    broken: str | None,
    contract: str,
    integer_kernel: bool | None,
) -> Rendered:
    """Draw everything once, for the page and for the files.

    Args:
        observations, model, metrics: of one run.
        settings: what was run.
        date: when.
        broken: how the parity contract was broken; None where it was met.
        contract: what the contract demands; empty where there is none.
        integer_kernel: whether the chosen scheme has integer kernels; None where that is not known.
    """
    layers = layer_table(observations, model, metrics)
    changes = prediction_changes(metrics.predictions)
    drawings = {
        "activations": panels(layers),
        "errors": error_plot(layers),
        "weights": weight_plot(weight_ranges(model.quantized)),
        "confusion": Markup() if changes is None or not changes.changed else confusion_plot(changes),
    }
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            settings=settings,
            date=date,
            broken=broken,
            contract=contract,
            notes=metrics.notes,
            columns=CLOSING_COLUMNS,
            closing=closing_table(metrics, integer_kernel),
            values=metrics.values,
            layers=layers,
            roundings=metrics.roundings,
            changes=changes,
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
