"""add: ``y = clamp(zy + rdp(Σ_i rescale_i(q_i−z_i), headroom))``; a term is looked up where there are 256.

Shapes of one sample broadcast as numpy's do.
"""

from __future__ import annotations

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import finisher, terms_of
from stages.integer.signature import Signature, broadcast_shape

SIGNATURE = Signature(
    inputs=(2, None), attrs=("headroom",), ratios="input", stream=True, shape=broadcast_shape
)


def prepare(op: Op, program: Program) -> Kernel:
    """The terms of each input."""
    finish, shape = finisher(op, program), program.values[op.output].shape
    own = [terms_of(op, program, program.values[name], index=i) for i, name in enumerate(op.inputs)]

    def run(*inputs: Integers) -> Integers:
        terms = own[0](inputs[0])
        for terms_of_input, q in zip(own[1:], inputs[1:], strict=True):
            if terms.shape[1:] == shape:
                terms += terms_of_input(q)
            else:
                terms = np.add(terms, terms_of_input(q))
        return finish(terms)

    return run
