"""Programs whose levels of 8 bits are all signed, so that one C function an operator serves.

An unsigned value becomes signed by taking 128 off its levels and its zero point: ``q − zero_point`` stays,
and with it all that any operator computes. `stages.integer.unsigned` goes the other way.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stages.integer.program import Op, Program, Value
from stages.integer.unsigned import OFFSET


def is_unsigned(value: Value) -> bool:
    """Whether levels are stored as uint8."""
    return value.dtype == np.uint8


def signed(program: Program) -> Program:
    """The same program over int8 values, and int32 ones where levels are wide."""
    return replace(
        program,
        values={name: _value(value) for name, value in program.values.items()},
        ops=tuple(_op(op, program) for op in program.ops),
    )


def _value(value: Value) -> Value:
    if not is_unsigned(value):
        return value
    low, high = value.quant_min - OFFSET, value.quant_max - OFFSET
    return replace(value, zero_point=value.zero_point - OFFSET, quant_min=low, quant_max=high)


def _op(op: Op, program: Program) -> Op:
    attrs, tensors = dict(op.attrs), dict(op.tensors)
    if is_unsigned(program.values[op.output]):
        attrs |= {name: attrs[name] - OFFSET for name in ("act_min", "act_max") if name in attrs}
        for name in {"table", "levels"} & tensors.keys():
            tensors[name] = (tensors[name].astype(np.int16) - OFFSET).astype(np.int8)
    if "weight" in tensors and tensors["weight"].dtype == np.uint8:
        tensors["weight"] = (tensors["weight"].astype(np.int16) - OFFSET).astype(np.int8)
        tensors["weight_zero_point"] = tensors["weight_zero_point"] - np.int32(OFFSET)
    return replace(op, attrs=attrs, tensors=tensors)
