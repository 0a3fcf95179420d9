"""How levels are stored in foreign formats."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.integer.program import Value


def storage_offset(value: Value) -> int:
    """What is added to a value's levels to store them as `storage_dtype`: 128 for signed levels of 8 bits."""
    return 128 if value.quant_min < 0 and not value.wide else 0


def storage_dtype(value: Value) -> np.dtype[Any]:
    """uint8; int32 for numbers of tokens, int16 or uint16 for other levels that 8 bits do not hold."""
    if value.counts:
        return np.dtype(np.int32)
    if value.wide:
        return np.dtype(np.int16 if value.quant_min < 0 else np.uint16)
    return np.dtype(np.uint8)
