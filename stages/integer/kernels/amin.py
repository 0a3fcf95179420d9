"""amin: the smallest level along some dimensions, which are left out or have size 1."""

from __future__ import annotations

import numpy as np

from stages.integer.extremes import along
from stages.integer.kernel import Kernel
from stages.integer.kernels.mean import output_shape
from stages.integer.program import Op, Program
from stages.integer.signature import Signature

SIGNATURE = Signature(attrs=("axes", "keepdim"), ratios="none", shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """One reduction."""
    return along(op, np.amin)
