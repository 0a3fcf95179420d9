"""multiply: ``y = clamp(zy + rescale((q1−z1)(q2−z2)))``, shapes of one sample broadcast as numpy's do."""

from __future__ import annotations

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import finisher, rescaler
from stages.integer.signature import Signature, broadcast_shape

SIGNATURE = Signature(inputs=(2, 2), shape=broadcast_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A product of 9 bits each way, which int32 holds."""
    rescale, finish = rescaler(op, program), finisher(op, program)
    first, second = (np.int16(program.values[name].zero_point) for name in op.inputs)

    def run(a: Integers, b: Integers) -> Integers:
        left, right = a.astype(np.int16) - first, b.astype(np.int16) - second
        return finish(rescale(np.multiply(left, right, dtype=np.int32)))

    return run
