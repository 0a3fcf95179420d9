"""group_conv2d: ``y = clamp(zy + rdp(Σ_g rescale_g(acc_g) [+ residual], headroom))`` over (N, C, H, W).

An accumulator for each of G groups of input channels, with a ratio of its own; the first takes the bias. Rows
``g·O .. g·O + O − 1`` of the weight (G·O, I/G, kH, kW) read group g.
"""

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
