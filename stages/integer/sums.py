"""Worst cases of int32 sums, as operators declare them (`Signature.bound`)."""

from __future__ import annotations

from stages.integer.fixed_point import INT32_MAX
from stages.integer.kernel import signature
from stages.integer.program import Op, Program, Value


def sum_bound(op: Op, program: Program) -> int:
    """The largest magnitude that an int32 sum of levels takes in an operator; 0 for one that forms none."""
    bound = signature(op).bound
    return 0 if bound is None else bound(op, program)


def check_sum(op: Op, program: Program) -> None:
    """Raise ValueError, naming the operator and its bound, where its sum can leave int32."""
    bound = sum_bound(op, program)
    if bound > INT32_MAX:
        raise ValueError(
            f"'{op.output}' ({op.op}): its sum can reach {bound}, beyond int32's {INT32_MAX}. "
            "Remedy: fewer bits for its inputs, or a smaller input"
        )


def span(x: Value) -> int:
    """The largest |q − zero_point|."""
    return max(x.quant_max - x.zero_point, x.zero_point - x.quant_min)


def level_sum(x: Value, count: int) -> int:
    """The largest magnitude of a sum of `count` levels, before or after their zero points are taken off."""
    return count * max(span(x), abs(x.quant_min), abs(x.quant_max))
