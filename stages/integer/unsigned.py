"""Programs with unsigned levels only, for operators that read nothing but uint8.

A signed value becomes unsigned by adding 128 to its levels and to its zero point: ``q − zero_point`` stays,
and with it all that any operator computes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stages.integer.program import Integers, Op, Program, Value

OFFSET = 128


def unsigned(program: Program) -> Program:
    """The same program over uint8 values."""
    return replace(
        program,
        values={name: _value(value) for name, value in program.values.items()},
        ops=tuple(_op(op, program) for op in program.ops),
    )


def to_unsigned(q: Integers) -> Integers:
    """int8 levels to those of the unsigned program; uint8 as they are. A copy, images channels-last."""
    rows_last = q.transpose(0, 2, 3, 1) if q.ndim == 4 else q
    copied: Integers = np.array(rows_last, order="C")
    if copied.dtype == np.int8:
        copied = copied.view(np.uint8)
        copied ^= np.uint8(OFFSET)  # adds 128 modulo 256
    return copied.transpose(0, 3, 1, 2) if q.ndim == 4 else copied


def from_unsigned(q: Integers, value: Value) -> Integers:
    """Levels of the unsigned program to those of `value`, in row-major order."""
    q = np.ascontiguousarray(q)
    return q if value.wide or value.dtype == np.uint8 else (q ^ np.uint8(OFFSET)).view(np.int8)


def _offset(value: Value) -> int:
    return OFFSET if value.dtype == np.int8 else 0


def _value(value: Value) -> Value:
    offset = _offset(value)
    return replace(
        value,
        zero_point=value.zero_point + offset,
        quant_min=value.quant_min + offset,
        quant_max=value.quant_max + offset,
    )


def _op(op: Op, program: Program) -> Op:
    offset = _offset(program.values[op.output])
    bounds = {name: op.attrs[name] + offset for name in ("act_min", "act_max") if name in op.attrs}
    tensors = dict(op.tensors)
    for name in {"table", "levels"} & tensors.keys() if offset else ():
        tensors[name] = tensors[name].view(np.uint8) ^ np.uint8(OFFSET)
    return replace(op, attrs={**op.attrs, **bounds}, tensors=tensors)
