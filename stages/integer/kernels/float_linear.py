"""float_linear: ``y = clamp(zy + rint((Σ s_x(qx−zx)·w + b [+ s_r(qr−zr)]) / s_y))`` over (N, …, I).

A layer that was left unquantized, an island between integers: `weight` and `bias` are float32, sums float64,
so that the order in which a library forms them changes no level.
"""

from __future__ import annotations

from dataclasses import replace

from stages.integer.accumulate import real_output, real_weight
from stages.integer.kernel import Kernel
from stages.integer.kernels import linear
from stages.integer.program import Op, Program

SIGNATURE = replace(linear.SIGNATURE, ratios="real")


def prepare(op: Op, program: Program) -> Kernel:
    """linear's product, over weights that are not whole."""
    return linear.product(op, program, real_weight(op, program), real_output(op, program))
