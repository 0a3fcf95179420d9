"""subtract: ``y = clamp(zy + rdp(rescale_1(q1−z1) − rescale_2(q2−z2), headroom))``.

Shapes of one sample broadcast as numpy's do.
"""

from __future__ import annotations

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import all_levels, finisher, look_up, rescaler
from stages.integer.signature import Signature, broadcast_shape

SIGNATURE = Signature(inputs=(2, 2), attrs=("headroom",), ratios="input", shape=broadcast_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A table of terms for each input."""
    finish = finisher(op, program)
    first, second = (
        rescaler(op, program, index=i)(all_levels(program.values[name])) for i, name in enumerate(op.inputs)
    )

    def run(a: Integers, b: Integers) -> Integers:
        return finish(np.subtract(look_up(first, a), look_up(second, b)))

    return run
