"""mean: ``y = clamp(zy + rescale(Σ (q−z)))`` over some dimensions; the ratio holds the division, if any."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import finisher, rescaler
from stages.integer.signature import Shape, Signature
from stages.integer.sums import check_sum, level_sum


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """Without the dimensions `axes`, or with 1 in their place."""
    axes, shape = op.attrs["axes"], shapes[0]
    if not axes or tuple(axes) != tuple(sorted(set(axes))) or not 0 <= axes[0] <= axes[-1] < len(shape):
        raise ValueError(f"axes={axes}: must be some of 0..{len(shape) - 1}, ascending")
    if op.attrs["keepdim"]:
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def count(op: Op, program: Program) -> int:
    """How many values a mean averages."""
    return math.prod(program.values[op.inputs[0]].shape[axis] for axis in op.attrs["axes"])


def bound(op: Op, program: Program) -> int:
    """All levels at their largest: they are summed before their zero points are taken off."""
    return level_sum(program.values[op.inputs[0]], count(op, program))


SIGNATURE = Signature(attrs=("axes", "keepdim"), shape=output_shape, bound=bound)


def prepare(op: Op, program: Program) -> Kernel:
    """A sum in int32."""
    check_sum(op, program)
    x = program.values[op.inputs[0]]
    rescale, finish = rescaler(op, program), finisher(op, program)
    axes = tuple(axis + 1 for axis in op.attrs["axes"])
    zero = np.int32(count(op, program) * x.zero_point)

    def run(q: Integers) -> Integers:
        sums = q.sum(axis=axes, dtype=np.int32, keepdims=op.attrs["keepdim"])
        sums -= zero
        return finish(rescale(sums))

    return run
