"""Scale migration from activations to weights (SmoothQuant, Xiao et al. 2023, arXiv 2211.10438, eq. 4).

A few input channels of a linear layer may be much larger than the others, and one scale for all of them
leaves few levels to the rest. With one factor per input channel,

    ``X_j /= s_j,  W[:, j] *= s_j``   with   ``s_j = max|X_j|^α / max|W_j|^(1−α)``,

the layer computes the same, and its weights, which are quantized with less loss, take over a share α of the
difficulty. The division costs nothing where it can be folded into the layer that makes X.

Channels that calibration hardly saw, or weights that are hardly there, would be scaled without bound. Either
maximum counts as a step of 8 bits at the least, 1/256 of the largest among the channels: what is smaller
rounds to zero anyway, and factors differ by 256 at the most.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from stages.corrections.equalize import Pair, equalizable, input_channels, scale_channels
from stages.graph.execute import execute
from stages.graph.ir import Graph, Node

LEAST = 1.0 / 256.0
"""Least maximum of a channel, as a share of the largest."""


def smoothable(graph: Graph) -> list[Pair]:
    """The linear layers whose input's factors can be folded into the layer before, with that layer."""
    return [pair for pair in equalizable(graph) if pair.second.op == "linear"]


def smooth(graph: Graph, samples: Iterable[Tensor], *, alpha: float) -> Graph:
    """Migrate scales; the float function is unchanged but for rounding.

    Args:
        graph: BatchNorm folded, fused.
        samples: batches of calibration samples, float32 (B, *input shape).
        alpha: in [0, 1]: 0 evens out the weights' channels, 1 the activations'.
    """
    pairs = smoothable(graph)
    largest = _largest_inputs(graph, pairs, samples)
    params = {key: tensor.double() for key, tensor in graph.params.items()}
    for pair in pairs:
        channels = graph.params[pair.first.params["weight"]].shape[0]
        x = largest[pair.second.name].reshape(channels, -1).amax(dim=1)
        w = input_channels(pair.second, params[pair.second.params["weight"]], channels).abs().amax(dim=1)
        if x.max() > 0 and w.max() > 0:  # else nothing is multiplied
            x, w = (maxima.clamp_min(LEAST * maxima.max()) for maxima in (x, w))
            scale_channels(pair, params, x**alpha / w ** (1.0 - alpha))
    return graph.with_params({key: tensor.float() for key, tensor in params.items()})


def _largest_inputs(graph: Graph, pairs: list[Pair], samples: Iterable[Tensor]) -> dict[str, Tensor]:
    """By name of a linear layer, the largest absolute value of each of its input features, float64."""
    read_by = {pair.second.inputs[0]: pair.second for pair in pairs}
    largest: dict[str, Tensor] = {}

    def watch(node: Node, value: Tensor) -> Tensor:
        if (layer := read_by.get(node.name)) is not None:
            here = value.reshape(-1, value.shape[-1]).abs().amax(dim=0).double()
            largest[layer.name] = torch.maximum(largest.get(layer.name, here), here)
        return value

    with torch.inference_mode():
        for x in samples:
            execute(graph, x, watch)
    return largest
