"""Plot of the error along the network: SQNR, and the shares of integers that lie off by one level or more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from stages.reporting.layers import Layer, OffBy
from stages.reporting.rows import GAP, NAMES, ROW, Axis, frame, middle
from stages.reporting.svg import element, lines, nice_ceiling, path, text
from stages.reporting.text import decibels, percent

_WIDTH = 1000.0
_PANEL = (_WIDTH - NAMES - 3 * GAP - 20) / 3


def error_plot(layers: Sequence[Layer]) -> Markup:
    """Three panels over the same rows, in execution order."""
    lefts = [NAMES + index * (_PANEL + GAP) for index in range(3)]
    sqnr, marks = _sqnr(layers, lefts[0])
    simulated, simulated_bars = _off_by(
        "simulated − integer", [layer.simulated for layer in layers], lefts[1]
    )
    backend, backend_bars = _off_by("reference − backend", [layer.backend for layer in layers], lefts[2])
    return frame(
        "SQNR and differences of levels by layer",
        [layer.name for layer in layers],
        [sqnr, simulated, backend],
        [*marks, *simulated_bars, *backend_bars],
        _WIDTH,
    )


def _sqnr(layers: Sequence[Layer], left: float) -> tuple[Axis, list[Markup]]:
    finite = [layer.sqnr_db for layer in layers if layer.sqnr_db is not None and math.isfinite(layer.sqnr_db)]
    low = min(0.0, 10.0 * math.floor(min(finite, default=0.0) / 10.0))
    high = 10.0 * math.ceil(max([*finite, 10.0]) / 10.0)
    step = 10.0 if high - low <= 60.0 else 20.0
    values = [low + step * i for i in range(int((high - low) / step) + 1)]
    ticks = tuple(((v - low) / (high - low), f"{v:.0f}") for v in values)
    axis = Axis(title="SQNR, dB", ticks=ticks, left=left, width=_PANEL)
    marks: list[Markup] = []
    points: list[str] = []
    for index, layer in enumerate(layers):
        if layer.sqnr_db is None:
            continue
        x, y = axis.place((layer.sqnr_db - low) / (high - low)), middle(index)
        points.append(f"{x:.1f} {y:.1f}")
        class_ = "dot" if math.isfinite(layer.sqnr_db) else "dot open"
        tooltip = element("title", f"{layer.name}: {decibels(layer.sqnr_db)} dB")
        marks.append(element("circle", tooltip, cx=x, cy=y, r=3.5, class_=class_))
    line = path("M" + "L".join(points), "line") if points else Markup()
    return axis, [line, *marks]


def _off_by(title: str, rows: Sequence[OffBy | None], left: float) -> tuple[Axis, list[Markup]]:
    """Bars of the share that differs, by how much; the axis ends above the largest of them."""
    worst = max((1.0 - row.equal for row in rows if row is not None), default=0.0)
    if worst <= 0.0:
        measured = any(row is not None for row in rows)
        axis = Axis(title=title, ticks=((0.0, "0%"),), left=left, width=_PANEL)
        note = "no level differs, at any layer" if measured else "not measured"
        return axis, [text(left + 8, middle(0) + 4, note, class_="label")]
    end = min(nice_ceiling(worst), 1.0)
    ticks = ((0.0, "0%"), (0.5, f"{end * 50:.3g}%"), (1.0, f"{end * 100:.3g}%"))
    axis = Axis(title=title, ticks=ticks, left=left, width=_PANEL)
    marks: list[Markup] = []
    for index, row in enumerate(rows):
        if row is None:
            continue
        x, y = axis.left, middle(index)
        for steps_off, share in enumerate(row.shares[1:], start=1):
            if share <= 0.0:
                continue
            width = share / end * axis.width
            tooltip = element(
                "title", f"off by {steps_off}{'' if steps_off < 3 else ' or more'}: {percent(share)}"
            )
            class_ = f"off{steps_off}"
            marks.append(element("rect", tooltip, x=x, y=y - 5, width=width, height=ROW - 7.0, class_=class_))
            x += width
    return axis, [*marks, lines([(left, middle(0) - ROW / 2, left, middle(len(rows) - 1) + ROW / 2)], "axis")]
