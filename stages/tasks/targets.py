"""What targets look like: their description, and the task that they suit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def described(labels: NDArray[Any]) -> str:
    """The targets' type and shape, as ``int64 (360,)``."""
    return f"{labels.dtype} ({', '.join(map(str, labels.shape))}{',' if labels.ndim == 1 else ''})"


def integral(labels: NDArray[Any]) -> bool:
    """Whether they are of an integer type."""
    return labels.dtype.kind in "iu"


def yes_or_no(labels: NDArray[Any]) -> bool:
    """Whether all of them are 0 or 1."""
    return bool(np.isin(labels, (0, 1)).all())


def range_of(labels: NDArray[Any]) -> str:
    """The least and the largest, as ``0..9``."""
    return f"{labels.min():g}..{labels.max():g}" if labels.size else "none"


def remedy(labels: NDArray[Any]) -> str:
    """The tasks that such targets suit, as overrides."""
    if integral(labels) and labels.ndim == 1:
        return "task=classification"
    if integral(labels) and labels.ndim == 3:
        return "task=segmentation"
    if labels.ndim == 2 and labels.shape[1] > 1 and yes_or_no(labels):
        return "task=multilabel"
    return "task=binary or task=regression" if yes_or_no(labels) else "task=regression"


def of_output(shape: tuple[int, ...]) -> str:
    """An output's shape, with the batch: ``(N, 10)``."""
    return f"({', '.join(['N', *map(str, shape)])})" if shape else "(N,)"
