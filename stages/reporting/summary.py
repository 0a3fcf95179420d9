"""The closing table: the three forms of the network side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from stages.reporting.text import MISSING, count, decibels, percent, points

CLOSING_COLUMNS = ("", "float", "simulated", "integer")


def closing_table(
    values: Mapping[str, float], integer_kernels: bool | None = None
) -> list[tuple[str, str, str, str]]:
    """One row a measure, cells in the order of `CLOSING_COLUMNS`; what was not measured is a dash.

    Args:
        values: the run's figures, by metric name.
        integer_kernels: whether integer kernels compute the network; None where that is not known.
    """

    def row(title: str, show: Callable[[float | None], str], *names: str) -> tuple[str, str, str, str]:
        first, second, third = (show(values.get(name)) if name else MISSING for name in names)
        return title, first, second, third

    def change(top1: float | None) -> str:
        base = values.get("float/top1")
        return MISSING if top1 is None or base is None else points(top1 - base)

    quantized = "integer" if "integer/top1" in values else "simulated"

    def ratio(form: str) -> str:
        value = values.get(f"{form}/sqnr_db")
        if value is None and form == quantized and {"float/top1", f"{form}/top1"} <= set(values):
            value = math.inf  # where nothing differs there is no figure
        return decibels(value)

    forms = CLOSING_COLUMNS[1:]
    kernels = MISSING if integer_kernels is None else "yes" if integer_kernels else "no"
    number = values.get("speed/threads")
    threads = "" if number is None else f", {number:.0f} thread{'' if number == 1 else 's'}"
    return [
        ("integer kernels", MISSING, MISSING, kernels),
        row("top-1", percent, *(f"{form}/top1" for form in forms)),
        row("change, points", change, "", "simulated/top1", "integer/top1"),
        row("top-1 as simulated", percent, "", "", "integer/agreement"),
        ("SQNR of logits, dB", MISSING, ratio("simulated"), ratio("integer")),
        row(f"images per second{threads}", count, *(f"{form}/images_per_second" for form in forms)),
        row("bytes", count, "model/float_bytes", "", "model/integer_bytes"),
        row("times smaller", lambda v: MISSING if v is None else f"{v:.2f}", "", "", "model/compression"),
    ]
