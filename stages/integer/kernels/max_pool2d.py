"""max_pool2d: the largest level of each window; scale and zero point stay. Padding never wins."""

from __future__ import annotations

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Signature
from stages.integer.windows import pad_image, pooled_shape, shifted_images

SIGNATURE = Signature(
    attrs=("kernel", "stride", "padding", "dilation", "ceil_mode"), ratios="none", shape=pooled_shape
)


def prepare(op: Op, program: Program) -> Kernel:
    """A maximum over the window's taps. With `ceil_mode` the last windows may reach past the padding."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    kernel, stride, padding, dilation = (op.attrs[k] for k in ("kernel", "stride", "padding", "dilation"))

    def run(q: Integers) -> Integers:
        reach = tuple(
            (out - 1) * s + (k - 1) * d + 1
            for out, s, k, d in zip(y.shape[1:], stride, kernel, dilation, strict=True)
        )
        padded = pad_image(q, padding, x.quant_min, reach)
        taps = shifted_images(padded, kernel, stride, dilation, y.shape[1:])
        largest = next(taps).copy(order="K")
        for tap in taps:
            np.maximum(largest, tap, out=largest)
        return largest

    return run
