"""How much a network minds few bits in one layer: that layer's weight is rounded, all else is float.

Over samples, with f the outputs of the float network, g those with one layer rounded, and the task's own
divergence D and loss L (in classification ``D = KL(softmax f ‖ softmax g)`` and cross-entropy, both in nats):

    ``SQNR = 10 log10(Σ f² / Σ (g − f)²)``, in dB,
    ``divergence = E[D]``, at least 0, without labels,
    ``loss change = E[L(g) − L(f)]``, by the labels.

The values before the layer are the float network's: they are computed once a batch and kept, and only what
depends on the layer is computed again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.graph.execute import compute, execute
from stages.graph.ir import Graph, Node
from stages.quant.qparams import QParams, dequantize
from stages.tasks.base import Task

RoundedWeight = tuple[Tensor, QParams]
"""A weight as integers, and their grid."""


@dataclass(frozen=True, kw_only=True)
class RoundingEffect:
    """What rounding one layer to some bits does to the outputs."""

    sqnr_db: float
    divergence: float
    loss_change: float


class Sensitivity:
    """Accumulates over batches; memory is that of all values of one batch.

    Args:
        graph: the float network, folded and fused.
        rounded: by layer name, the weight at each number of bits.
        task: what the outputs mean.
    """

    def __init__(self, graph: Graph, rounded: Mapping[str, Mapping[int, RoundedWeight]], task: Task) -> None:
        self._task = task
        self._graph = graph
        self._rounded = rounded
        # noise power, divergence, loss change
        self._sums = {
            (name, bits): torch.zeros(3, dtype=torch.float64) for name in rounded for bits in rounded[name]
        }
        self._signal = 0.0
        self._samples = 0

    def update(self, x: Tensor, labels: Tensor) -> None:
        """Measure all layers at all bits on samples `x`, (N, …), with their labels."""
        values: dict[str, Tensor] = {}

        def keep(node: Node, value: Tensor) -> Tensor:
            values[node.name] = value
            return value

        with torch.inference_mode():
            outputs = execute(self._graph, x, keep).double()
            loss = self._task.loss(outputs, labels)
            self._signal += float(outputs.square().sum())
            self._samples += len(x)
            for name, choices in self._rounded.items():
                for bits, (levels, qparams) in choices.items():
                    perturbed = self._resume(name, dequantize(levels, qparams), values).double()
                    self._sums[name, bits] += torch.stack(
                        [
                            (perturbed - outputs).square().sum(),
                            self._task.divergence(perturbed, outputs) * len(x),
                            (self._task.loss(perturbed, labels) - loss) * len(x),
                        ]
                    )

    def _resume(self, name: str, weight: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The outputs with another weight in one layer, from the values of the unchanged network."""
        graph = self._graph.with_params({self._graph[name].params["weight"]: weight})
        changed: dict[str, Tensor] = {}
        for node in graph.nodes:
            if node.name == name or any(read in changed for read in node.inputs):
                operands = [changed.get(read, values[read]) for read in node.inputs]
                changed[node.name] = compute(graph, node, *operands)
        return changed.get(graph.output, values[graph.output])

    def effects(self) -> dict[str, dict[int, RoundingEffect]]:
        """By layer name and bits, over all batches so far."""
        found: dict[str, dict[int, RoundingEffect]] = {name: {} for name in self._rounded}
        for (name, bits), sums in self._sums.items():
            noise, divergence, loss_change = sums.tolist()
            sqnr = 10.0 * math.log10(max(self._signal, 1e-300) / max(noise, 1e-300))
            found[name][bits] = RoundingEffect(
                sqnr_db=sqnr,
                divergence=max(divergence, 0.0) / self._samples,
                loss_change=loss_change / self._samples,
            )
        return found


def macs(graph: Graph, name: str) -> int:
    """Multiply-accumulates of a layer for one sample."""
    node = graph[name]
    positions = math.prod(node.shape[1:]) if node.op == "conv2d" else 1
    return positions * graph.params[node.params["weight"]].numel()
