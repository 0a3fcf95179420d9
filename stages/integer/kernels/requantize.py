"""requantize: ``y = clamp(zy + rescale(q−z))``, looked up where the input has 256 levels."""

from __future__ import annotations

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import all_levels, finisher, look_up, rescaler, terms_of
from stages.integer.signature import Signature, same_shape

SIGNATURE = Signature(shape=same_shape, stream=True)


def prepare(op: Op, program: Program) -> Kernel:
    """One table; for more levels, the terms themselves."""
    x, finish = program.values[op.inputs[0]], finisher(op, program)
    if x.wide:
        terms = terms_of(op, program, x)
        return lambda q: finish(terms(q))
    table = finish(rescaler(op, program)(all_levels(x)))

    def run(q: Integers) -> Integers:
        return look_up(table, q)

    return run
