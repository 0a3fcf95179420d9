"""add: ``y = clamp(zy + rdp(Σ_i rescale_i(q_i−z_i), headroom))``; each term is one of 256, looked up.

Shapes of one sample broadcast as numpy's do.
"""

from __future__ import annotations

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import all_levels, finisher, look_up, rescaler
from stages.integer.signature import Signature, broadcast_shape

SIGNATURE = Signature(inputs=(2, None), attrs=("headroom",), ratios="input", shape=broadcast_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A table of terms for each input."""
    finish, shape = finisher(op, program), program.values[op.output].shape
    tables = [
        rescaler(op, program, index=i)(all_levels(program.values[name])) for i, name in enumerate(op.inputs)
    ]

    def run(*inputs: Integers) -> Integers:
        terms = look_up(tables[0], inputs[0])
        for table, q in zip(tables[1:], inputs[1:], strict=True):
            if terms.shape[1:] == shape:
                terms += look_up(table, q)
            else:
                terms = np.add(terms, look_up(table, q))
        return finish(terms)

    return run
