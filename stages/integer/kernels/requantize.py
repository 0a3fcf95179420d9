"""requantize: ``y = clamp(zy + rescale(q−z))``, which maps 256 levels to 256 levels."""

from __future__ import annotations

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import all_levels, finisher, look_up, rescaler
from stages.integer.signature import Signature, same_shape

SIGNATURE = Signature(shape=same_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """One table."""
    table = finisher(op, program)(rescaler(op, program)(all_levels(program.values[op.inputs[0]])))

    def run(q: Integers) -> Integers:
        return look_up(table, q)

    return run
