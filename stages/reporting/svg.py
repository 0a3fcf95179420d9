"""SVG by nesting calls: ``element("g", element("rect", x=1))``. Texts and attributes are escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from stages.reporting.text import shorten


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """One element. ``fill_opacity`` becomes ``fill-opacity``, ``class_`` ``class``; None is left out."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{tag}{given}>{inner}</{tag}>")


def drawing(width: float, height: float, label: str, *children: str, **attributes: object) -> Markup:
    """An ``<svg>`` to inline in a page, `label` for those who cannot see it."""
    view = f"0 0 {_attribute(width)} {_attribute(height)}"
    about: dict[str, object] = {"viewBox": view, "width": width, "height": height, "role": "img"}
    return element("svg", *children, **about, aria_label=label, **attributes)


def text(x: float, y: float, content: str, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """A line of text on the baseline `y`."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def name_text(x: float, y: float, name: str, length: int, *, anchor: str = "start") -> Markup:
    """A layer's name cut to `length` characters, whole in its tooltip."""
    tooltip = element("title", name) if len(name) > length else Markup()
    return element("text", tooltip, shorten(name, length), x=x, y=y, text_anchor=anchor, class_="name")


def path(data: str, class_: str) -> Markup:
    """A path of the given commands."""
    return element("path", d=data, class_=class_)


def lines(segments: Iterable[tuple[float, float, float, float]], class_: str) -> Markup:
    """Straight lines ``(x1, y1, x2, y2)`` in one path."""
    return path("".join(f"M{_n(a)} {_n(b)}L{_n(c)} {_n(d)}" for a, b, c, d in segments), class_)


def steps(xs: Sequence[float], ys: Sequence[float], baseline: float, class_: str) -> Markup:
    """The filled outline of bars: bar i from ``xs[i]`` to ``xs[i+1]``, up to ``ys[i]``."""
    data = [f"M{_n(xs[0])} {_n(baseline)}"]
    previous = None
    for right, y in zip(xs[1:], ys, strict=True):
        data.append(f"H{_n(right)}" if _n(y) == previous else f"V{_n(y)}H{_n(right)}")
        previous = _n(y)
    return path("".join([*data, f"V{_n(baseline)}Z"]), class_)


def nice_ceiling(value: float) -> float:
    """The least of 1, 2, 5 · 10^k that is not below `value` > 0: where an axis ends."""
    power = 10.0 ** math.floor(math.log10(value))
    return next((m * power for m in (1.0, 2.0, 5.0) if m * power >= value * (1 - 1e-9)), 10.0 * power)


def _attribute(value: object) -> object:
    return _n(value) if isinstance(value, float) else value


def _n(value: float) -> str:
    """A tenth of a pixel is all that can be seen."""
    return f"{value:.1f}".rstrip("0").rstrip(".")
