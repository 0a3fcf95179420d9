"""group_conv2d: ``y = clamp(zy + rdp(Σ_g rescale_g(acc_g) [+ residual], headroom))`` over (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stages.integer.kernels import conv2d
from stages.integer.program import Op
from stages.integer.signature import Shape


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(O, H', W'), from a weight of (G·O, channels/G, kH, kW)."""
    rows, *image = conv2d.output_shape(op, shapes)
    return (rows // op.attrs["groups"], *image)


SIGNATURE = replace(conv2d.SIGNATURE, ratios="group", shape=output_shape)

prepare = conv2d.prepare
"""A grouped convolution; `stages.integer.accumulate.layer_output` adds what its groups give."""
