"""amax: the largest level along some dimensions, which are left out or have size 1."""

from __future__ import annotations

from stages.integer.kernel import Kernel
from stages.integer.kernels.mean import output_shape
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Signature

SIGNATURE = Signature(attrs=("axes", "keepdim"), ratios="none", shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """One reduction."""
    axes = tuple(axis + 1 for axis in op.attrs["axes"])

    def run(q: Integers) -> Integers:
        levels: Integers = q.max(axis=axes, keepdims=op.attrs["keepdim"])
        return levels

    return run
