"""take: ``y[…, j, …] = q[…, indices[j], …]`` along `axis`: selects, repeats and reorders levels.

Scale and zero point stay. Flips, rolls, repetitions, padding by reflection, nearest neighbours of any size
and windows as columns are all of this form.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The input's, with the number of `indices` along `axis`."""
    axis, indices, shape = op.attrs["axis"], op.attrs["indices"], shapes[0]
    if not 0 <= axis < len(shape):
        raise ValueError(f"axis={axis}: must be 0..{len(shape) - 1}")
    if indices and not 0 <= min(indices) <= max(indices) < shape[axis]:
        raise ValueError(f"indices span {min(indices)}..{max(indices)}: must be within 0..{shape[axis] - 1}")
    return (*shape[:axis], len(indices), *shape[axis + 1 :])


SIGNATURE = Signature(attrs=("axis", "indices"), ratios="none", shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A copy of what is selected."""
    indices, axis = np.array(op.attrs["indices"], np.intp), op.attrs["axis"] + 1

    def run(q: Integers) -> Integers:
        return q.take(indices, axis=axis)

    return run
