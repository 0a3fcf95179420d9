"""slice: ``q[starts:ends:steps]`` along each dimension of a sample; scale and zero point stay."""

from __future__ import annotations

from collections.abc import Sequence

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The number of indices that each slice picks."""
    starts, ends, steps = (op.attrs[name] for name in ("starts", "ends", "steps"))
    if not len(starts) == len(ends) == len(steps) == len(shapes[0]) or any(step < 1 for step in steps):
        raise ValueError(f"starts, ends, steps: must be {len(shapes[0])} numbers each, steps at least 1")
    bounds = zip(shapes[0], starts, ends, steps, strict=True)
    return tuple(len(range(size)[slice(start, end, step)]) for size, start, end, step in bounds)


SIGNATURE = Signature(attrs=("starts", "ends", "steps"), ratios="none", view=True, shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """A view."""
    bounds = zip(op.attrs["starts"], op.attrs["ends"], op.attrs["steps"], strict=True)
    index = (slice(None), *(slice(*triple) for triple in bounds))

    def run(q: Integers) -> Integers:
        return q[index]

    return run
