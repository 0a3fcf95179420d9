"""Plots of what was observed at each quantization point, with the range chosen for it.

The height of a bar is ``log(1 + count)``: tails of a few values in millions stay visible.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from stages.reporting.histogram import Histogram
from stages.reporting.layers import Layer
from stages.reporting.svg import drawing, element, lines, name_text, path, steps, text
from stages.reporting.text import percent, significant

PANEL = (232, 112)
MUCH_CLIPPED = 0.01
"""The share of clipped observations from which a panel draws attention to it."""

_TOP, _BOTTOM, _SIDE = 24, 18, 4


def panel(layer: Layer) -> Markup:
    """The histogram of one point: dashes at the chosen range, what lies outside it tinted."""
    width, height = PANEL
    label = f"Activations of {layer.name}, chosen range {layer.minimum:.4g} to {layer.maximum:.4g}"
    return drawing(width, height, label, *_panel(layer), class_="panel")


def panels(layers: Sequence[Layer], columns: int = 4) -> Markup:
    """All points in one drawing."""
    width, height = PANEL
    placed = [
        element(
            "svg",
            *_panel(layer),
            x=index % columns * (width + 12) + 12,
            y=index // columns * (height + 12) + 12,
            width=width,
            height=height,
        )
        for index, layer in enumerate(layers)
    ]
    rows = -(-len(layers) // columns)
    size = (columns * (width + 12) + 12, rows * (height + 12) + 12)
    return drawing(*size, "Activations of every layer", *placed)


def sparkline(layer: Layer, width: int = 72, height: int = 18) -> Markup:
    """The same, small enough for a cell of the table."""
    if layer.observed is None:
        return Markup()
    shown = layer.observed.merged(36)
    low, high = _domain(layer, shown)
    xs = (shown.edges - low) / (high - low) * width
    marks = [(layer.minimum - low) / (high - low) * width, (layer.maximum - low) / (high - low) * width]
    return drawing(
        width,
        height,
        "histogram",
        steps(xs.tolist(), (height - _heights(shown) * height).tolist(), height, "bar"),
        lines([(x, 0, x, height) for x in marks], "threshold"),
    )


def _panel(layer: Layer) -> list[Markup]:
    width, height = PANEL
    floor, room = height - _BOTTOM, height - _BOTTOM - _TOP
    title = name_text(_SIDE, 12, layer.name, 24)
    if layer.observed is None:
        return [title, text(_SIDE, floor - 4, "not observed", class_="label")]
    shown = layer.observed.merged()
    low, high = _domain(layer, shown)

    def place(value: float) -> float:
        return _SIDE + (value - low) / (high - low) * (width - 2 * _SIDE)

    left, right = place(layer.minimum), place(layer.maximum)
    outside = "".join(
        f"M{a:.1f} {_TOP}H{b:.1f}V{floor}H{a:.1f}Z"
        for a, b in ((_SIDE, left), (right, width - _SIDE))
        if b - a > 0.5
    )
    xs = [place(edge) for edge in shown.edges.tolist()]
    about = "label warn" if layer.clipped and layer.clipped > MUCH_CLIPPED else "label"
    clipped = f"{percent(layer.clipped)} clipped" if layer.clipped else ""
    return [
        title,
        text(width - _SIDE, 12, clipped, anchor="end", class_=about),
        path(outside, "outside"),
        steps(xs, (floor - _heights(shown) * room).tolist(), floor, "bar"),
        lines([(_SIDE, floor, width - _SIDE, floor)], "axis"),
        lines([(left, _TOP - 4, left, floor), (right, _TOP - 4, right, floor)], "threshold"),
        *_range_labels(layer, left, right),
    ]


def _range_labels(layer: Layer, left: float, right: float) -> list[Markup]:
    """The two thresholds' values beneath them, kept inside the panel and apart."""
    width, height = PANEL
    room = 40.0  # a number of three digits and its sign
    left = min(max(left - room / 2, _SIDE), width - _SIDE - 2 * room)
    right = max(min(right + room / 2, width - _SIDE), left + 2 * room)
    return [
        text(left, height - 5, significant(layer.minimum, 3), class_="label"),
        text(right, height - 5, significant(layer.maximum, 3), anchor="end", class_="label"),
    ]


def _heights(histogram: Histogram) -> NDArray[np.float64]:
    """0..1, logarithmic."""
    raised: NDArray[np.float64] = np.log1p(histogram.counts)
    return raised / max(float(raised.max(initial=0.0)), 1.0)


def _domain(layer: Layer, shown: Histogram) -> tuple[float, float]:
    """From the least to the greatest of what was observed and what can be represented."""
    low = min(layer.minimum, float(shown.edges[0]))
    high = max(layer.maximum, float(shown.edges[-1]))
    return (low, high) if high > low else (low - 0.5, high + 0.5)
