"""What lowerings share: ratios of scales, and real bounds as levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import PipelineError
from stages.graph.ir import Node
from stages.integer.program import Op, Value
from stages.quant.qparams import QParams, dequantize

Numbers = NDArray[Any]

MAX_HEADROOM = 16
"""Extra bits carried through a sum before its one rounding; more would add nothing to 8-bit levels."""


def bounds(node: Node, y: Value) -> dict[str, int]:
    """The fused clamp in levels of the output, rounded as `quantize` rounds."""

    def level(bound: float) -> int:
        return round(float(np.rint(np.float32(bound) / np.float32(y.scale)))) + y.zero_point

    low, high = node.clamp_min, node.clamp_max
    return {
        "act_min": y.quant_min if low is None else min(max(level(low), y.quant_min), y.quant_max),
        "act_max": y.quant_max if high is None else max(min(level(high), y.quant_max), y.quant_min),
    }


def lowered(
    node: Node,
    values: Mapping[str, Value],
    tensors: Mapping[str, Numbers],
    *,
    op: str | None = None,
    without: tuple[str, ...] = (),
    attrs: Mapping[str, int] | None = None,
) -> Op:
    """A node as an operator of the program that clamps to levels of its output.

    Args:
        node: whose attributes it keeps.
        values: of the program.
        tensors: of the operator.
        op: its name; None for the node's own.
        without: attributes of the node that the program does not have.
        attrs: more attributes; of one name, they prevail.
    """
    kept = {name: value for name, value in node.attrs.items() if name not in without}
    return Op(
        op=op or node.op,
        inputs=node.inputs,
        output=node.name,
        attrs={**kept, **(attrs or {}), **bounds(node, values[node.name])},
        tensors=tensors,
    )


def level_reals(x: Value, qparams: QParams) -> Tensor:
    """The reals that 256 levels of `x`, or all its counts, stand for, float32, from its dtype's least on."""
    first, count = -128 if x.quant_min < 0 else 0, x.quant_max + 1 if x.counts else 256
    return dequantize(torch.arange(first, first + count).clamp(x.quant_min, x.quant_max), qparams)


def headroom(name: str, bound: float) -> int:
    """The most extra bits with which terms of `bound` output levels at the most still fit int32."""
    bits = 30 - math.ceil(math.log2(max(bound, 1.0)))
    if bits < 0:
        raise PipelineError(
            f"'{name}': a sum can reach {bound:.3g} levels of its output, which overflows int32. "
            "Remedy: calibrate with a wider range (calibration=minmax), or look for outliers in its weights."
        )
    return min(bits, MAX_HEADROOM)


def span(x: Value) -> int:
    """The largest |q − zero_point|."""
    return max(x.quant_max - x.zero_point, x.zero_point - x.quant_min)


def ratios(node: Node, values: Mapping[str, Value], divisor: int = 1) -> Numbers:
    """``s_i / (s_y · divisor)`` for each input, float64 (inputs,)."""
    return np.array([values[name].scale / (values[node.name].scale * divisor) for name in node.inputs])
