"""avg_pool2d: ``y = clamp(zy + rescale(Σ (q−z)))`` over each window; the ratio holds the division.

Padding counts as real zero, that is, it adds nothing to the sum.
"""

from __future__ import annotations

import math

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import finisher, rescaler
from stages.integer.signature import Signature
from stages.integer.sums import check_sum, level_sum
from stages.integer.windows import pad_image, pooled_shape, shifted_images


def bound(op: Op, program: Program) -> int:
    """All levels of a window at their largest."""
    return level_sum(program.values[op.inputs[0]], math.prod(op.attrs["kernel"]))


SIGNATURE = Signature(attrs=("kernel", "stride", "padding"), shape=pooled_shape, bound=bound)


def prepare(op: Op, program: Program) -> Kernel:
    """A sum over the window's taps; one reduction where the window is the whole image."""
    check_sum(op, program)
    x, y = program.values[op.inputs[0]], program.values[op.output]
    rescale, finish = rescaler(op, program), finisher(op, program)
    kernel, padding = op.attrs["kernel"], op.attrs["padding"]
    whole = tuple(kernel) == x.shape[1:] and not any(padding)

    def run(q: Integers) -> Integers:
        if whole:
            sums = q.sum(axis=(2, 3), dtype=np.int32, keepdims=True)
        else:
            padded = pad_image(q, padding, x.zero_point)
            taps = shifted_images(padded, kernel, op.attrs["stride"], (1, 1), y.shape[1:])
            sums = next(taps).astype(np.int32)
            for tap in taps:
                sums += tap
        sums -= np.int32(kernel[0] * kernel[1] * x.zero_point)
        return finish(rescale(sums))

    return run
