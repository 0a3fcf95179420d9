"""The closing table: the three forms of the network side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from stages.reporting.text import MISSING, count, decibels, percent, points, signed, significant
from stages.tasks.base import Measure, Task

CLOSING_COLUMNS = ("", "float", "simulated", "integer")


def shown(measure: Measure) -> Callable[[float | None], str]:
    """How a task's figure is written: in percent, or with four significant digits."""
    return percent if measure.share else significant


def closing_table(
    values: Mapping[str, float], integer_kernels: bool | None, task: Task
) -> list[tuple[str, str, str, str]]:
    """One row a measure, cells in the order of `CLOSING_COLUMNS`; what was not measured is a dash.

    Args:
        values: the run's figures, by metric name.
        integer_kernels: whether integer kernels compute the network; None where that is not known.
        task: what the outputs mean.
    """

    def row(title: str, show: Callable[[float | None], str], *names: str) -> tuple[str, str, str, str]:
        first, second, third = (show(values.get(name)) if name else MISSING for name in names)
        return title, first, second, third

    main = task.measures[0]

    def change(value: float | None) -> str:
        base = values.get(f"float/{main.key}")
        if value is None or base is None:
            return MISSING
        return points(value - base) if main.share else signed(value - base)

    measured = {
        form for form in CLOSING_COLUMNS[1:] if any(f"{form}/{m.key}" in values for m in task.measures)
    }
    quantized = "integer" if "integer" in measured else "simulated"

    def ratio(form: str) -> str:
        value = values.get(f"{form}/sqnr_db")
        if value is None and form == quantized and {"float", form} <= measured:
            value = math.inf  # where nothing differs there is no figure
        return decibels(value)

    forms = CLOSING_COLUMNS[1:]
    keys = [f"{form}/{main.key}" for form in forms]
    others = [
        row(measure.title, shown(measure), *(f"{form}/{measure.key}" for form in forms))
        for measure in task.measures[1:]
        if any(f"{form}/{measure.key}" in values for form in forms)
    ]
    macs = ("model/float_macs", "", "model/integer_macs")
    fewer = {macs[0], macs[2]} <= set(values) and values[macs[2]] < values[macs[0]]  # channels were left out
    kernels = MISSING if integer_kernels is None else "yes" if integer_kernels else "no"
    number = values.get("speed/threads")
    threads = "" if number is None else f", {number:.0f} thread{'' if number == 1 else 's'}"
    return [
        ("integer kernels", MISSING, MISSING, kernels),
        row(main.title, shown(main), *keys),
        row(f"change{', points' if main.share else ''}", change, *("", *keys[1:])),
        *others,
        row(f"{task.decision} as simulated", percent, "", "", "integer/agreement"),
        (
            f"SQNR of {'logits' if task.smooths else 'outputs'}, dB",
            MISSING,
            ratio("simulated"),
            ratio("integer"),
        ),
        row(f"images per second{threads}", count, *(f"{form}/images_per_second" for form in forms)),
        *([row("multiply-accumulates", count, *macs)] if fewer else []),
        row("bytes", count, "model/float_bytes", "", "model/integer_bytes"),
        row("bytes, with all that the file holds", count, "", "", "model/file_bytes"),
        row("times smaller", lambda v: MISSING if v is None else f"{v:.2f}", "", "", "model/compression"),
        row(
            "times smaller, the file",
            lambda v: MISSING if v is None else f"{v:.2f}",
            "",
            "",
            "model/file_compression",
        ),
    ]
