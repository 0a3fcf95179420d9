"""float_conv2d: ``y = clamp(zy + rint((Σ s_x(qx−zx)·w + b [+ s_r(qr−zr)]) / s_y))`` over (N, C, H, W).

A layer that was left unquantized, an island between integers: `weight` and `bias` are float32, sums float64,
so that the order in which a library forms them changes no level.
"""

from __future__ import annotations

from dataclasses import replace

from stages.integer.accumulate import real_output, real_weight
from stages.integer.kernel import Kernel
from stages.integer.kernels import conv2d
from stages.integer.program import Op, Program

SIGNATURE = replace(conv2d.SIGNATURE, ratios="real")


def prepare(op: Op, program: Program) -> Kernel:
    """conv2d's loops, over weights that are not whole."""
    return conv2d.convolution(op, program, real_weight(op, program), real_output(op, program))
