"""avg_pool2d: ``y = clamp((Σ q ± ⌊n/2⌋) / n)``, half away from zero, over the n levels of a window.

Levels are averaged as they are, zero points included, and padding does not count; with ``ceil_mode``, windows
may reach beyond the padding at the end, which is TFLite's SAME where that is one more at the end than before.
Input and output share scale and zero point. Source: reference/integer_ops/pooling.h, AveragePool.
"""

from __future__ import annotations

import numpy as np

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.windows import pad_image, shifted_images


def prepare(op: Op, program: Program) -> Kernel:
    """Sums and counts over the window's taps."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    if (x.scale, x.zero_point) != (y.scale, y.zero_point):
        raise ValueError(f"'{op.output}' (avg_pool2d): TFLite's pools keep scale and zero point")
    kernel, stride, padding = op.attrs["kernel"], op.attrs["stride"], op.attrs["padding"]
    reach = [(n - 1) * step + k for n, step, k in zip(y.shape[1:], stride, kernel, strict=True)]
    ones = pad_image(np.ones((1, 1, *x.shape[1:]), np.int32), padding, 0, reach)
    count = sum(shifted_images(ones, kernel, stride, (1, 1), y.shape[1:]))
    half = count // 2

    def run(q: Integers) -> Integers:
        padded = pad_image(q, padding, 0, reach)
        taps = shifted_images(padded, kernel, stride, (1, 1), y.shape[1:])
        total = next(taps).astype(np.int32)
        for tap in taps:
            total += tap
        rounded = np.where(total > 0, (total + half) // count, -((half - total) // count))
        return np.clip(rounded, op.attrs["act_min"], op.attrs["act_max"]).astype(y.dtype)

    return run
