"""Plot of the weights' ranges: how far apart the channels of each layer lie.

One scale a layer has a step of ``max|w| / quant_max``. A channel whose largest weight is below half of it
becomes all zeros, which is what happens to depthwise networks after BatchNorm folding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from stages.graph.points import layers as weighted
from stages.graph.quantized import QuantizedGraph
from stages.reporting.rows import HEAD, NAMES, ROW, Axis, frame, middle
from stages.reporting.svg import element, lines, text
from stages.reporting.text import significant

_WIDTH = 1000.0
_FIGURES = 250.0


@dataclass(frozen=True, kw_only=True)
class WeightRange:
    """The weight of one layer.

    Args:
        maxima: max |w| of each output channel, float64 (O,), ascending.
        levels: the greatest distance of a level from the zero of symmetric weights: 127 for 8 bits.
        zero: how many channels are all zeros under the scales chosen.
    """

    name: str
    maxima: NDArray[np.float64]
    levels: int
    zero: int

    @property
    def half_step(self) -> float:
        """Half a step of one scale for the whole tensor: what is smaller rounds to zero under it."""
        return float(self.maxima.max(initial=0.0)) / self.levels / 2

    @property
    def spread(self) -> float:
        """The largest channel over the median one; 1 where there is nothing to compare."""
        median = float(np.median(self.maxima)) if self.maxima.size else 0.0
        return float(self.maxima.max()) / median if median > 0.0 else 1.0

    @property
    def zero_per_tensor(self) -> int:
        """How many channels one scale for the whole tensor turns to zeros."""
        return int((self.maxima <= self.half_step).sum())


def weight_ranges(quantized: QuantizedGraph) -> tuple[WeightRange, ...]:
    """All layers whose weights are quantized, in execution order."""
    rows = []
    for name in weighted(quantized.graph):
        if name not in quantized.weights:
            continue
        weight = quantized.graph.params[quantized.graph[name].params["weight"]]
        qparams = quantized.weights[name]
        maxima = weight.detach().abs().flatten(1).amax(dim=1)
        coarsest = qparams.scale.amax(dim=1) if qparams.group_size else qparams.scale
        rows.append(
            WeightRange(
                name=name,
                maxima=np.sort(maxima.double().numpy()),
                levels=max(-qparams.quant_min, qparams.quant_max),
                zero=int((maxima <= coarsest / 2).sum()),
            )
        )
    return tuple(rows)


def weight_plot(ranges: Sequence[WeightRange]) -> Markup:
    """A tick a channel at its max |w|, logarithmic; a box over the middle half, a rule at half a step."""
    occupied = [row.maxima[row.maxima > 0] for row in ranges]
    everything = np.concatenate([*occupied, [row.half_step for row in ranges if row.half_step > 0]])
    if not everything.size:
        return Markup()
    low, high = np.floor(np.log10(everything.min())), np.ceil(np.log10(everything.max()))
    high = max(high, low + 1.0)
    low = max(low, high - 6.0)  # channels that pruning or folding left at 1e-20 would squeeze the rest
    decades = np.arange(low, high + 1)
    ticks = tuple((float((d - low) / (high - low)), _power(int(d))) for d in decades)
    axis = Axis(
        title="max |w| of each output channel", ticks=ticks, left=NAMES, width=_WIDTH - NAMES - _FIGURES
    )

    def place(values: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = (np.log10(np.maximum(values, 10.0**low)) - low) / (high - low)
        placed: NDArray[np.float64] = axis.left + np.clip(shares, 0.0, 1.0) * axis.width
        return placed

    contents = [
        text(_WIDTH - 150, 12, "largest / median", anchor="end", class_="title"),
        text(_WIDTH - 4, 12, "channels all zero", anchor="end", class_="title"),
        text(_WIDTH - 70, HEAD - 10, "per tensor", anchor="end", class_="label"),
        text(_WIDTH - 4, HEAD - 10, "as chosen", anchor="end", class_="label"),
    ]
    for index, row in enumerate(ranges):
        if row.maxima.size:
            contents.extend(_strip(row, middle(index), place))
    return frame("Ranges of the weights by layer", [r.name for r in ranges], [axis], contents, _WIDTH)


def _power(exponent: int) -> str:
    """``0.01``, ``10``, ``10⁻⁶``."""
    if -3 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _strip(
    row: WeightRange, y: float, place: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> list[Markup]:
    ticks = np.unique(np.round(place(row.maxima), 0))  # as many as can be told apart
    marks = np.array([*np.quantile(row.maxima, [0.25, 0.5, 0.75]), row.half_step])
    low, median, high, half_step = place(marks).tolist()
    reach = ROW / 2 - 3
    tooltip = element("title", f"{row.name}: half of its channels between {marks[0]:.3g} and {marks[2]:.3g}")
    figures = [(70, row.zero_per_tensor), (4, row.zero)]
    return [
        element(
            "rect", tooltip, x=low, y=y - reach, width=max(high - low, 1.0), height=2 * reach, class_="box"
        ),
        lines([(x, y - reach, x, y + reach) for x in ticks.tolist()], "rug"),
        lines([(median, y - reach - 1, median, y + reach + 1)], "median"),
        lines([(half_step, y - ROW / 2, half_step, y + ROW / 2)], "threshold"),
        text(_WIDTH - 150, y + 4, f"{significant(row.spread, 3)}×", anchor="end", class_="label"),
        *(_zeros(_WIDTH - inset, y + 4, zero, row.maxima.size) for inset, zero in figures),
    ]


def _zeros(x: float, y: float, zero: int, channels: int) -> Markup:
    shown = f"{zero} of {channels}" if zero else "none"
    return text(x, y, shown, anchor="end", class_="label warn" if zero else "label")
