"""The frame of plots with one row a layer: names at the left, panels beside each other, grid lines behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from stages.reporting.svg import drawing, lines, name_text, text

NAMES = 200
ROW = 17
HEAD = 40
GAP = 36
_CHARACTERS = 27


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis: positions of ticks within ``0..1`` and their texts, and the panel they are in."""

    title: str
    ticks: tuple[tuple[float, str], ...]
    left: float
    width: float

    def place(self, share: float) -> float:
        """The pixel of a position 0..1; beyond the ends, the nearer end."""
        return self.left + min(max(share, 0.0), 1.0) * self.width


def middle(index: int) -> float:
    """The vertical middle of row `index`."""
    return HEAD + ROW * index + ROW / 2


def frame(
    label: str, names: Sequence[str], axes: Sequence[Axis], contents: Sequence[Markup], right: float
) -> Markup:
    """The drawing, `right` pixels wide: grid and axes, then `contents` over them."""
    bottom = HEAD + ROW * len(names)
    grid: list[Markup] = []
    for axis in axes:
        xs = [axis.place(share) for share, _ in axis.ticks]
        grid.append(lines([(x, HEAD - 4, x, bottom) for x in xs], "grid"))
        grid.append(text(axis.left, 12, axis.title, class_="title"))
        grid.extend(
            text(x, HEAD - 10, tick, anchor=_anchor(share), class_="label")
            for x, (share, tick) in zip(xs, axis.ticks, strict=True)
        )
    named = [
        name_text(NAMES - 12, middle(index) + 4, name, _CHARACTERS, anchor="end")
        for index, name in enumerate(names)
    ]
    return drawing(right, bottom + 8, label, *grid, *named, *contents, class_="wide")


def _anchor(share: float) -> str:
    return "start" if share <= 0.0 else "end" if share >= 1.0 else "middle"
