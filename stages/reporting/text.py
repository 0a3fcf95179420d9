"""Numbers as text. A share rounds to 0% or 100% only where it is exactly that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MISSING = "–"


def significant(value: float | None, digits: int = 4) -> str:
    """`digits` significant digits: ``0.01230``, ``1.234e-07``; a dash for None."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return _signed(value, "∞")
    return _signed(value, f"{abs(value):#.{digits}g}".rstrip(".") if value else "0")


def percent(share: float | None, decimals: int = 2) -> str:
    """A share 0..1 in percent: ``87.97%``, ``<0.01%``, ``>99.99%``; a dash for None."""
    if share is None or math.isnan(share):
        return MISSING
    least = 0.5 * 10.0 ** -(decimals + 2)
    unit = 10.0**-decimals
    if 0.0 < share < least:
        return f"<{unit:.{decimals}f}%"
    if 1.0 - least < share < 1.0:
        return f">{100 - unit:.{decimals}f}%"
    return _signed(share, f"{abs(share):.{decimals}%}")


def points(difference: float | None) -> str:
    """A difference of two shares in percentage points, signed: ``−0.12``; a dash for None."""
    if difference is None or math.isnan(difference):
        return MISSING
    text = f"{abs(difference) * 100:.2f}"
    if float(text) == 0.0:
        return "0.00"
    return ("+" if difference > 0 else "−") + text


def signed(difference: float | None) -> str:
    """A difference with three significant digits, signed: ``+0.00120``; a dash for None."""
    if difference is None or math.isnan(difference) or not difference:
        return MISSING if difference is None or math.isnan(difference) else "0"
    return ("+" if difference > 0 else "") + significant(difference, 3)


def decibels(value: float | None) -> str:
    """One decimal, ∞ where there is no noise; a dash for None."""
    if value is None or math.isnan(value):
        return MISSING
    return _signed(value, "∞" if math.isinf(value) else f"{abs(value):.1f}")


def count(value: float | None) -> str:
    """A whole number with thousands apart: ``1,082,000``; a dash for None."""
    return MISSING if value is None or math.isnan(value) else f"{value:,.0f}"


def level(value: int) -> str:
    """An integer with a minus sign as wide as a digit: ``−127``."""
    return _signed(value, str(abs(value)))


def shorten(name: str, length: int) -> str:
    """At most `length` characters, the middle left out: a layer's name tells most at its two ends."""
    if len(name) <= length:
        return name
    tail = (length - 1) * 2 // 3
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"


def _signed(value: float, magnitude: str) -> str:
    return f"−{magnitude}" if value < 0 else magnitude


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()) -> str:
    """A table, and notes below it, as Markdown; columns after the first are aligned to the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    table = [f"| {' | '.join(cell.replace('|', '¦') for cell in row)} |" for row in (columns, rule, *rows)]
    return "\n".join([*table, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"
