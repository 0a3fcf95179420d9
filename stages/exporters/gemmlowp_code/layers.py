"""A layer as gemmlowp takes it: unsigned weights, offsets, and whether its output pipeline finishes it.

gemmlowp computes ``Σ (lhs + lhs_offset)(rhs + rhs_offset)`` over uint8 (public/gemmlowp.h): the weights are
its left side, the input's levels its right one, and an offset is minus a zero point. What the stage
``OutputStageScaleInt32ByFixedPointAndExponent`` adds after the shift is the result's zero point itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.integer.bounds import accumulator_bounds
from stages.integer.fixed_point import INT32_MAX
from stages.integer.program import Op, Program
from stages.integer.unsigned import OFFSET

LAYERS = frozenset({"conv2d", "group_conv2d", "linear", "group_linear"})

MOST_DEPTH = INT32_MAX // 255**2
"""gemmlowp sums products of unsigned levels first and takes the offsets off after: more would leave int32."""

LAST_EXPONENT = -30
"""The lowest that the vectors of gemmlowp's rounding division hold: their mask is ``(1 << 30) − 1``."""


@dataclass(frozen=True, kw_only=True)
class Gemm:
    """A layer's product of matrices.

    Args:
        weight: uint8 (rows, depth).
        lhs_offset: minus the weights' zero points; int32 (1,) or (rows,).
        rhs_offset: minus the input's zero point.
        groups: rows of one group meet the same inputs.
        in_pipeline: whether gemmlowp's output pipeline gives the levels; else its int32 sums are finished in
            our arithmetic: residuals, sums of several rows, levels of more than 8 bits, and sums that could
            leave int32 where the exponent shifts them to the left.
    """

    weight: NDArray[np.uint8]
    lhs_offset: NDArray[np.int32]
    rhs_offset: int
    groups: int
    in_pipeline: bool

    @property
    def rows(self) -> int:
        """Rows of the weight, and of the result."""
        return len(self.weight)

    @property
    def depth(self) -> int:
        """Products a sum."""
        return int(self.weight.shape[1])

    @classmethod
    def of(cls, op: Op, program: Program) -> Gemm:
        """The layer `op` of a `program` of unsigned levels."""
        weight, zero_point = op.tensors["weight"], op.tensors["weight_zero_point"]
        offset = OFFSET if weight.dtype == np.int8 else 0
        levels = (weight.astype(np.int16) + offset).astype(np.uint8)
        return cls(
            weight=levels.reshape(len(levels), -1),
            lhs_offset=(-zero_point - offset).astype(np.int32),
            rhs_offset=-program.values[op.inputs[0]].zero_point,
            groups=op.attrs.get("groups", 1),
            in_pipeline=_in_pipeline(op, program),
        )


def _in_pipeline(op: Op, program: Program) -> bool:
    y, bias, shift = program.values[op.output], op.tensors["bias"], op.tensors["shift"].astype(np.int64)
    one_term = len(op.inputs) == 1 and len(op.tensors["weight"]) == len(bias)
    if not one_term or y.wide or op.attrs.get("headroom", 0) or shift.min() < LAST_EXPONENT:
        return False
    largest = accumulator_bounds(op, program) << np.maximum(shift, 0)
    return bool(largest.max() + y.zero_point <= INT32_MAX)
