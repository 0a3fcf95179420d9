"""Worst cases of sums whose terms are all levels: their number times the largest term."""

from __future__ import annotations

import math

from stages.integer.fixed_point import INT32_MAX
from stages.integer.program import Op, Program, Value


def sum_bound(op: Op, program: Program) -> int:
    """The largest magnitude of an int32 sum of a mean or matmul; 0 for other operators.

    A mean sums the levels before it takes their zero points off, so that both must fit.
    """
    if op.op == "mean":
        x = program.values[op.inputs[0]]
        return mean_count(op, program) * max(_span(x), abs(x.quant_min), abs(x.quant_max))
    if op.op == "matmul":
        a, b = (program.values[name] for name in op.inputs)
        return a.shape[-1] * _span(a) * _span(b)
    return 0


def mean_count(op: Op, program: Program) -> int:
    """How many values a mean averages."""
    return math.prod(program.values[op.inputs[0]].shape[axis] for axis in op.attrs["axes"])


def check_sum(op: Op, program: Program) -> None:
    """Raise ValueError, naming the operator and its bound, where its sum can leave int32."""
    bound = sum_bound(op, program)
    if bound > INT32_MAX:
        raise ValueError(
            f"'{op.output}' ({op.op}): its sum can reach {bound}, beyond int32's {INT32_MAX}. "
            "Remedy: fewer bits for its inputs, or a smaller input"
        )


def _span(x: Value) -> int:
    """The largest |q − zero_point|."""
    return max(x.quant_max - x.zero_point, x.zero_point - x.quant_min)
