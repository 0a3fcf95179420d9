"""A layer as a matrix product: rows of inputs, one for each output position, and rows of outputs.

``Y[g] = X[g] W[g]ᵀ`` for each group g of a convolution (a linear layer has one), with X[g] (M, K), W[g]
(O/groups, K), Y[g] (M, O/groups) and K = kH·kW·I/groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.corrections.lockstep import LayerInputs
from stages.graph.execute import compute
from stages.graph.ir import Graph, Node

CHUNK = 16
"""Samples at a time."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Some of the positions of a layer, in random order.

    Args:
        x: simulated inputs, float32 (groups, M, K).
        residual: simulated residual, float32 (groups, M, O/groups); None where there is none.
        target: float outputs, activation function included, float32 (groups, M, O/groups).
    """

    x: Tensor
    residual: Tensor | None
    target: Tensor

    def __len__(self) -> int:
        return self.x.shape[1]


def sample_patches(graph: Graph, inputs: LayerInputs, limit: int, generator: torch.Generator) -> Patches:
    """Draw positions of a layer without replacement: all of them, or as many as `limit` bytes hold."""
    node = inputs.node
    weight = graph.params[node.params["weight"]]
    groups = groups_of(node)
    samples, outputs, terms = len(inputs.simulated[0]), weight.shape[0], weight[0].numel()
    positions = math.prod(node.shape[1:] if node.op == "conv2d" else node.shape[:-1])
    row_bytes = 4 * (groups * terms + len(inputs.simulated) * outputs)
    rows = max(1, min(samples * positions, limit // row_bytes))
    chosen = torch.randperm(samples * positions, generator=generator)[:rows]
    x = torch.empty(groups, rows, terms)
    target = torch.empty(groups, rows, outputs // groups)
    residual = torch.empty_like(target) if len(inputs.simulated) == 2 else None
    sample, position = chosen // positions, chosen % positions
    for start in range(0, samples, CHUNK):
        chunk = slice(start, start + CHUNK)
        here = torch.nonzero((sample >= start) & (sample < start + CHUNK))[:, 0]
        if not len(here):
            continue
        at = (sample[here] - start, position[here])
        x[:, here] = _input_rows(node, weight, inputs.simulated[0][chunk], at)
        y = compute(graph, node, *(operand[chunk] for operand in inputs.floats))
        target[:, here] = _output_rows(node, y, at)
        if residual is not None:
            residual[:, here] = _output_rows(node, inputs.simulated[1][chunk], at)
    return Patches(x=x, residual=residual, target=target)


def groups_of(node: Node) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return node.attrs["groups"] if node.op == "conv2d" else 1


def _input_rows(node: Node, weight: Tensor, x: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    """The receptive fields of (sample, position) pairs: (groups, m, K)."""
    if node.op == "linear":
        return x.reshape(len(x), -1, x.shape[-1])[at][None]
    (stride_h, stride_w), (dilation_h, dilation_w) = node.attrs["stride"], node.attrs["dilation"]
    pad_h, pad_w = node.attrs["padding"]
    x = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    n, c, h, w = x.stride()
    size = (*x.shape[:2], *node.shape[1:], *weight.shape[2:])
    windows = x.as_strided(size, (n, c, h * stride_h, w * stride_w, h * dilation_h, w * dilation_w))
    rows = windows[at[0], :, at[1] // node.shape[2], at[1] % node.shape[2]]  # (m, C, kH, kW)
    return rows.reshape(len(rows), groups_of(node), -1).transpose(0, 1)


def _output_rows(node: Node, y: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
    """The outputs at (sample, position) pairs: (groups, m, O/groups)."""
    conv = node.op == "conv2d"
    rows = y.flatten(2)[at[0], :, at[1]] if conv else y.reshape(len(y), -1, y.shape[-1])[at]
    return rows.reshape(len(rows), groups_of(node), -1).transpose(0, 1)
