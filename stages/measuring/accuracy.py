"""Accuracy: outputs of each form on the same test samples, and what they say by the run's task.

Where the largest logit is one of several classes, the lowest of them is the prediction, in every form; on
integers, which have 256 levels, that happens, and `integer/tied_top1` counts it. The signal-to-quantization-
noise ratio of outputs is ``SQNR = 10 log10(Σ f² / Σ (f' − f)²)`` in dB, f those of float.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.console import Console
from stages.data.base import Data, Split
from stages.data.batches import batches, subset
from stages.measuring.forms import Form
from stages.tasks.base import Outputs, Targets, Task, agreeing, figures_by_form

Ids = NDArray[np.int64]


def sample_ids(split: Split, samples: int | None, seed: int) -> Ids:
    """The test samples to measure on: `samples` of them drawn by the seed, None for all; ascending."""
    return subset(split, len(split) if samples is None else samples, seed, "test")


def compared_ids(split: Split, samples: int | None, compared: int, seed: int) -> Ids:
    """Those of `sample_ids`, at most `compared`, that are compared layer by layer and mode by mode."""
    ids = sample_ids(split, samples, seed)
    return ids[subset(ids, compared, seed, "parity")]


def compared_batches(
    data: Data,
    *,
    samples: int | None,
    compared: int,
    batch_size: int,
    seed: int,
    console: Console,
    description: str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, labels) of `compared_ids` in batches of at most `batch_size` and 64, showing progress."""
    split = data.test()
    ids = compared_ids(split, samples, compared, seed)
    with console.progress(description, len(ids)) as advance:
        for x, labels in batches(split, min(batch_size, 64), data, order=ids):
            yield x, labels
            advance(len(x))


def outputs_of(
    forms: Mapping[str, Form], data: Data, split: Split, ids: Ids, batch_size: int, console: Console
) -> dict[str, Outputs]:
    """Outputs (N, …) of each form for the samples `ids`, all forms batch by batch."""
    parts: dict[str, list[Outputs]] = {name: [] for name in forms}
    if not forms:
        return {}
    with console.progress(f"running {', '.join(forms)}", len(ids)) as advance:
        for x, _ in batches(split, batch_size, data, order=ids):
            for name, form in forms.items():
                parts[name].append(form(x))
            advance(len(x))
    return {name: np.concatenate(part) for name, part in parts.items()}


def figures(task: Task, outputs: Mapping[str, Outputs], labels: Targets) -> dict[str, float]:
    """``<form>/<measure>`` of the task, and of what was quantized agreement, ties and ``…/sqnr_db``.

    A figure whose forms are not there is left out, and so is the ratio where no noise defines it.
    """
    values = figures_by_form(task, outputs, labels)
    if "integer" in outputs:
        tied = task.tied(outputs["integer"])
        if tied is not None:
            values[f"integer/tied_{task.batched.key}"] = float(tied.mean())
        if "simulated" in outputs:
            same = agreeing(task.decisions(outputs["integer"]), task.decisions(outputs["simulated"]))
            values["integer/agreement"] = float(same.mean())
    quantized = next((name for name in ("integer", "simulated") if name in outputs), None)
    if quantized is not None and "float" in outputs:
        reference, actual = outputs["float"], outputs[quantized]
        signal = float(np.square(reference, dtype=np.float64).sum())
        ratio = sqnr_db(signal, float(np.square(actual - reference, dtype=np.float64).sum()))
        if ratio is not None:
            values[f"{quantized}/sqnr_db"] = ratio
    return values


def sqnr_db(signal: float, noise: float) -> float | None:
    """Ratio of powers in decibels; None where there is no noise, which leaves it undefined."""
    return None if noise == 0.0 else 10.0 * math.log10(max(signal, 1e-300) / noise)
