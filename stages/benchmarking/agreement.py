"""Whether a competitor computes the network at all, which is asked before it is timed.

What is compared is Pearson's correlation of all outputs with the float network's: it is 1 for any positive
scale and any zero point, so that levels can be compared like reals, near 1 for int8, and near 0 for garbage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def first_output(result: object) -> NDArray[np.float64] | None:
    """The numbers of a call's first result, flat; None where it gives none, as a step of calibration.

    Args:
        result: a tensor or an array, or a sequence or mapping whose first one counts.
    """
    if isinstance(result, Mapping):
        result = next(iter(result.values()), None)
    if isinstance(result, list | tuple):
        return first_output(result[0]) if result else None
    if isinstance(result, torch.Tensor):
        result = result.detach().cpu().numpy()
    if not isinstance(result, np.ndarray) or result.dtype.kind not in "fiu":
        return None
    flat: NDArray[np.float64] = np.asarray(result, np.float64).ravel()
    return flat


def correlation(result: object, expected: NDArray[Any] | None) -> float | None:
    """Pearson's correlation, −1..1, of a call's first result with what is expected; None where there is none.

    Raises ValueError where their numbers of entries differ, or an output is not finite.
    """
    found = first_output(result)
    if found is None or expected is None:
        return None
    wanted = np.asarray(expected, np.float64).ravel()
    if found.size != wanted.size:
        raise ValueError(f"gives {found.size} numbers where the network gives {wanted.size}")
    if not np.isfinite(found).all():
        raise ValueError(f"gives {np.count_nonzero(~np.isfinite(found))} numbers that are not finite")
    a, b = found - found.mean(), wanted - wanted.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm > 0.0 else float(np.array_equal(found, wanted))
