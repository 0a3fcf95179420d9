"""maximum: ``y = clamp(zy + max(rescale_1(q1−z1), rescale_2(q2−z2)))``, element by element.

Shapes of one sample broadcast as numpy's do.
"""

from __future__ import annotations

import numpy as np

from stages.integer.extremes import of_two
from stages.integer.kernel import Kernel
from stages.integer.program import Op, Program
from stages.integer.signature import Signature, broadcast_shape

SIGNATURE = Signature(inputs=(2, 2), ratios="input", shape=broadcast_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """The terms of each input."""
    return of_two(op, program, np.maximum)
