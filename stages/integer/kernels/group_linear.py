"""group_linear: ``y = clamp(zy + rdp(Σ_g rescale_g(acc_g) [+ residual], headroom))`` over (N, …, I).

An accumulator for each of G groups of input channels, with a ratio of its own; the first takes the bias. Rows
``g·O .. g·O + O − 1`` of the weight (G·O, I/G) read group g.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.integer.kernels import linear
from stages.integer.program import Op
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(…, O), from a weight of (G·O, I/G)."""
    weight, groups = op.tensors["weight"].shape, op.attrs["groups"]
    if len(weight) != 2 or (weight[1] * groups,) != tuple(shapes[0][-1:]) or weight[0] % groups:
        raise ValueError(
            f"weight of shape {weight} with groups={groups} for an input of shape {shapes[0]}: "
            "must be (groups·O, I/groups) and (…, I)"
        )
    return (*shapes[0][:-1], weight[0] // groups)


SIGNATURE = Signature(inputs=(1, 2), attrs=("groups",), ratios="group", layer=True, shape=output_shape)

prepare = linear.prepare
