"""What kernels share that choose the larger or the smaller of levels, or take the difference of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import finisher, terms_of


def of_two(op: Op, program: Program, choose: Callable[..., Any]) -> Kernel:
    """A kernel ``clamp(zy + choose(rescale_1(q1−z1), rescale_2(q2−z2)))``; `choose` is numpy's."""
    finish = finisher(op, program)
    first, second = (terms_of(op, program, program.values[name], index=i) for i, name in enumerate(op.inputs))

    def run(a: Integers, b: Integers) -> Integers:
        return finish(choose(first(a), second(b)))

    return run


def along(op: Op, reduce: Callable[..., Any]) -> Kernel:
    """A kernel that reduces the levels along the operator's ``axes``; `reduce` is numpy's over an axis."""
    axes = tuple(axis + 1 for axis in op.attrs["axes"])

    def run(q: Integers) -> Integers:
        levels: Integers = reduce(q, axis=axes, keepdims=op.attrs["keepdim"])
        return levels

    return run
