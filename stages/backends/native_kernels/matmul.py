"""The step of a product of two values, whose second takes the place of a convolution's weights."""

from __future__ import annotations

import numpy as np

from stages.backends.native_kernels.planner import Draft, Pins, image_shape
from stages.backends.native_kernels.ratios import requantize
from stages.backends.native_kernels.structures import StepKind
from stages.backends.native_kernels.weights import DOT
from stages.integer.program import Op, Program
from stages.integer.sums import check_sum

OFFSET = 128
"""What makes levels of the second value signed, as weights are."""


def matmul(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Rows of the first value, in as many runs as the second has matrices."""
    check_sum(op, program)
    a, b = (program.values[name] for name in op.inputs)
    inner, columns = image_shape(a)[0], image_shape(b)[0]
    zero_point = np.full(columns, b.zero_point - OFFSET)
    fields = (
        *((f"{name}_{axis}", 1) for name in ("kernel", "stride", "dilation") for axis in "hw"),
        ("channels", -(-inner // DOT) * DOT),
        ("sum_channels", inner),
        ("target_channels", columns),
        (
            "requantize",
            requantize(op, program, pins, rows=slice(0, columns), weight_zero_point=zero_point),
        ),
    )
    return [Draft(StepKind.MATMUL, op.output, op.inputs[0], op.inputs[1], fields)]
