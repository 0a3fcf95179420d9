"""permute: dimension i of a sample is the input's dimension ``axes[i]``; scale and zero point stay."""

from __future__ import annotations

from collections.abc import Sequence

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The sizes in another order."""
    axes, shape = op.attrs["axes"], shapes[0]
    if sorted(axes) != list(range(len(shape))):
        raise ValueError(f"axes={axes}: must be 0..{len(shape) - 1} in some order")
    return tuple(shape[axis] for axis in axes)


SIGNATURE = Signature(attrs=("axes",), ratios="none", view=True, shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A view."""
    order = (0, *(axis + 1 for axis in op.attrs["axes"]))

    def run(q: Integers) -> Integers:
        return q.transpose(order)

    return run
