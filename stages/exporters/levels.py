"""How levels are stored in foreign formats."""

from __future__ import annotations

from stages.integer.program import Value


def storage_offset(value: Value) -> int:
    """What is added to a value's levels to store them as uint8: 128 for signed levels."""
    return 128 if value.quant_min < 0 else 0
