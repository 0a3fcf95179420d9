"""PReLU (He et al. 2015, arXiv 1502.01852, eq. 1): ``x`` where positive, else ``a_c · x``, c the channel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.functions import clamp
from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, Operator, Parameters
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import level_reals
from stages.integer.program import Op, Value
from stages.quant.qparams import quantize


def _value(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return F.prelu(x, params["slope"])


def _lower(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    x = values[node.inputs[0]]
    reals = level_reals(x, quantized.qparams(x.name)).double()
    slope = quantized.graph.params[node.params["slope"]].double().reshape(-1, 1)
    y = torch.where(reals > 0.0, reals, slope * reals)
    return channel_table(quantized, node, y.expand(x.shape[0], 256), axis=0)


def channel_table(quantized: QuantizedGraph, node: Node, reals: Tensor, axis: int) -> Op:
    """What a function of each channel, `reals` (C, 256) over the input's levels, is in the program."""
    table = quantize(clamp(reals, node.clamp_min, node.clamp_max).float(), quantized.qparams(node.name))
    tensors = {"table": table.contiguous().numpy()}
    return Op(op="channel_table", inputs=node.inputs, output=node.name, attrs={"axis": axis}, tensors=tensors)


OPERATORS = (
    Operator(
        name="prelu",
        kind="computes",
        attributes="param slope (C,) or (1,)",
        value=_value,
        lower=_lower,
    ),
)
