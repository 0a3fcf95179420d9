"""pad: real zeros, the level `zero_point`, around each sample; scale and zero point stay."""

from __future__ import annotations

from collections.abc import Sequence

from stages.integer import windows
from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """Each dimension with what lies before and after it."""
    pads = op.attrs["pads"]
    if len(pads) != len(shapes[0]) or any(amount < 0 for pair in pads for amount in pair):
        raise ValueError(f"pads={pads}: must be {len(shapes[0])} pairs (before, after), not negative")
    return tuple(before + size + after for size, (before, after) in zip(shapes[0], pads, strict=True))


SIGNATURE = Signature(attrs=("pads",), ratios="none", shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """``pads``: (before, after) for each dimension of a sample."""
    pads = [(0, 0), *op.attrs["pads"]]
    zero_point = program.values[op.inputs[0]].zero_point

    def run(q: Integers) -> Integers:
        return windows.pad(q, pads, zero_point)

    return run
