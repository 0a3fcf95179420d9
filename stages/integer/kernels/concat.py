"""concat: each input ``clamp(zy + rescale_i(q_i−z_i))``, joined along `axis` of a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import all_levels, finisher, look_up, rescaler
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The shape of one input, with the sizes along `axis` added up."""
    axis = op.attrs["axis"]
    if not 0 <= axis < len(shapes[0]):
        raise ValueError(f"axis={axis}: must be 0..{len(shapes[0]) - 1}")
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) != 1:
        raise ValueError(f"inputs of shapes {', '.join(map(str, shapes))}: must be equal but for axis {axis}")
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])


SIGNATURE = Signature(inputs=(1, None), attrs=("axis",), ratios="input", shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A table of levels for each input."""
    finish = finisher(op, program)
    tables = [
        finish(rescaler(op, program, index=i)(all_levels(program.values[name])))
        for i, name in enumerate(op.inputs)
    ]
    axis = op.attrs["axis"] + 1

    def run(*inputs: Integers) -> Integers:
        return np.concatenate([look_up(t, q) for t, q in zip(tables, inputs, strict=True)], axis=axis)

    return run
