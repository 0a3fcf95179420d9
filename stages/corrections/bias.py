"""Empirical bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2 and appendix D).

Rounding weights and inputs shifts the mean of a layer's outputs. Per output channel, over the calibration
samples, before the activation function:

    ``b ← b + E[y_float] − E[y_simulated]``,

after which both means are equal, but for the rounding of b itself to steps of ``s_x·s_w``. A residual that is
added before the activation counts as part of y.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stages.corrections.lockstep import LayerInputs
from stages.graph.execute import pre_activation
from stages.graph.ir import Node
from stages.graph.quantized import QuantizedGraph
from stages.quant.weights import MAX_BIAS

HEADROOM = 2**10
"""Steps below the largest integer bias, for float32 to round in."""


def correct_bias(quantized: QuantizedGraph, inputs: LayerInputs, *, batch_size: int = 64) -> QuantizedGraph:
    """The network with one layer's bias corrected; a layer without bias is given one."""
    node, graph = inputs.node, quantized.graph
    weight, bias = quantized.layer_params(node)
    expected = mean_pre_activation(
        node, graph.params[node.params["weight"]], graph.param(node, "bias"), inputs.floats, batch_size
    )
    shift = expected - mean_pre_activation(node, weight, bias, inputs.simulated, batch_size)
    corrected = shift if bias is None else bias.double() + shift
    if not quantized.activations:  # no accumulator that it has to fit
        return replace(quantized, biases={**quantized.biases, node.name: corrected.float()})
    weight_scale = quantized.weights[node.name].bias_scale
    scales = quantized.qparams(node.inputs[0]).scale.double() * weight_scale.double()
    limit = (MAX_BIAS - HEADROOM) * scales  # of the int32 accumulator; reached by weights close to zero only
    corrected = torch.minimum(torch.maximum(corrected, -limit), limit)
    return replace(quantized, biases={**quantized.biases, node.name: corrected.float()})


def mean_pre_activation(
    node: Node, weight: Tensor, bias: Tensor | None, operands: tuple[Tensor, ...], batch_size: int
) -> Tensor:
    """The mean of a layer's values before its clamp, over samples and positions, float64 (O,)."""
    total = torch.zeros(weight.shape[0], dtype=torch.float64)
    count = 0
    for start in range(0, len(operands[0]), batch_size):
        rows = slice(start, start + batch_size)
        y = pre_activation(node, weight, bias, *(operand[rows] for operand in operands))
        y = y.movedim(-1 if node.op == "linear" else 1, 0).flatten(1)
        total += y.sum(dim=1, dtype=torch.float64)
        count += y.shape[1]
    return total / count
