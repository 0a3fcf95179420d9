"""subtract: as `add`, with the second operand's term taken off. Source: reference/sub.h; kernels/sub.cc."""

from __future__ import annotations

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.profiles.tflm.add import scaled_sum
from stages.integer.program import Op, Program


def prepare(op: Op, program: Program) -> Kernel:
    """A difference of two operands."""
    return scaled_sum(op, program, np.subtract)
