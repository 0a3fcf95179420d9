"""A layer's own result, before its residual is added, for runtimes that round it to 8 bits."""

from __future__ import annotations

from stages.integer.program import Op, Value


def unsummed(op: Op, r: Value, y: Value) -> Value:
    """A layer's own result as a value of 8 bits, uint8: what it can be where the sum with `r` is not clamped.

    ``[min y − max r, max y − min r]``: beyond it the sum is clamped anyway. Named ``<output>/unsummed``.
    """
    low = y.scale * (op.attrs["act_min"] - y.zero_point) - r.scale * (r.quant_max - r.zero_point)
    high = y.scale * (op.attrs["act_max"] - y.zero_point) - r.scale * (r.quant_min - r.zero_point)
    low, high = min(low, 0.0), max(high, 0.0)  # zero has a level
    scale = (high - low) / 254  # of 255 steps, one is for rounding the zero point
    zero_point = round(-low / scale)
    name = f"{op.output}/unsummed"
    return Value(name=name, shape=y.shape, scale=scale, zero_point=zero_point, quant_min=0, quant_max=255)
