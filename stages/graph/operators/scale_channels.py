"""A factor and an offset for each channel: ``factor_c · x + offset_c``, c the index along one dimension.

Constants that scale or shift channels (LayerScale, ``(x − mean) / std``), and BatchNorm over vectors that
follows no layer, its statistics at rest. `stages.graph.scales` folds it into a neighbour where that is exact;
what is left is one table a channel, whose only rounding is that of its result.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.operators.prelu import channel_table
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import level_reals
from stages.integer.program import Op, Value


def _value(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    sizes = (-1, *[1] * (x.ndim - 2 - attrs["axis"]))
    if "factor" in params:
        x = x * params["factor"].reshape(sizes)
    return x + params["offset"].reshape(sizes) if "offset" in params else x


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x = values[node.inputs[0]]
    reals = level_reals(x, quantized.qparams(x.name)).double()
    roles = {role: tensor.double() for role, tensor in quantized.graph.roles(node).items()}
    channels = reals.expand(x.shape[node.attrs["axis"]], 256)
    return channel_table(quantized, node, _value({"axis": 0}, roles, channels[None])[0], node.attrs["axis"])


OPERATORS = (
    Operator(
        name="scale_channels",
        kind="computes",
        attributes="axis; params factor and offset, each (C,), or one of them",
        value=_value,
        lower=_lower,
    ),
)
