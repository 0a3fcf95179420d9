"""The float network and its simulation side by side: a node at a time, over all calibration samples.

A correction of one layer shows in the inputs of the next, so layers are corrected in execution order, each
with the values that the corrected layers before it give. Every node is computed once in either form, and its
values are kept until their last reader has run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stages.corrections.values import Values
from stages.graph.execute import LayerFunction, compute, pre_activation
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower_node, value_of
from stages.graph.operators.registry import is_layer
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import level_function
from stages.integer.program import Program
from stages.quant.qparams import fake_quantize

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class LayerInputs:
    """What a layer reads, over all calibration samples.

    Args:
        node: the layer.
        floats: its operands in the float network, each (N, *shape): the input, and the residual if any.
        simulated: the same in the simulation, the layers before it corrected.
    """

    node: Node
    floats: tuple[Tensor, ...]
    simulated: tuple[Tensor, ...]


Correct = Callable[[QuantizedGraph, LayerInputs], QuantizedGraph]
"""Corrects one layer; what it returns is used from there on."""


@dataclass(frozen=True, kw_only=True)
class Lockstep:
    """How to hold the samples.

    Args:
        batch_size: samples computed at a time.
        memory: MiB of values to hold in memory; what exceeds it is mapped from files.
        folder: for these files.
    """

    batch_size: int
    memory: int
    folder: Path

    def correct(self, quantized: QuantizedGraph, x: Tensor, correct: Correct) -> QuantizedGraph:
        """Correct all quantized layers of a network, in execution order.

        Args:
            quantized: the calibrated network.
            x: the calibration samples, float32 (N, *input shape).
            correct: called with each layer.
        """
        graph = quantized.graph
        values = Values(self.memory * MIB, self.folder)
        last_reader = {name: node.name for node in graph.nodes for name in node.inputs}
        for node in graph.nodes:
            floats = tuple(values[f"float|{name}"] for name in node.inputs)
            simulated = tuple(values[f"simulated|{name}"] for name in node.inputs)
            if node.name in quantized.weights:
                inputs = LayerInputs(node=node, floats=floats, simulated=simulated)
                quantized = correct(quantized, inputs)
            if node.name in last_reader:
                shape = (len(x), *node.shape)
                out = values.allocate(f"float|{node.name}", shape)
                self._compute(out, floats or (x,), _float(graph, node))
                out = values.allocate(f"simulated|{node.name}", shape)
                self._compute(out, simulated or (x,), _simulated(quantized, node))
            del floats, simulated
            for name in {name for name in node.inputs if last_reader[name] == node.name}:
                values.drop(f"float|{name}")
                values.drop(f"simulated|{name}")
        return quantized

    def _compute(self, out: Tensor, operands: tuple[Tensor, ...], step: Callable[..., Tensor]) -> None:
        for start in range(0, len(out), self.batch_size):
            rows = slice(start, start + self.batch_size)
            out[rows] = step(*(operand[rows] for operand in operands))


def _float(graph: Graph, node: Node) -> Callable[..., Tensor]:
    if node.op == "input":
        return lambda x: x
    return lambda *operands: compute(graph, node, *operands)


def _simulated(quantized: QuantizedGraph, node: Node) -> Callable[..., Tensor]:
    if quantized.activations:
        return _on_levels(quantized, node)
    if node.op == "input":
        return lambda x: x
    layer: LayerFunction | None = None
    if is_layer(node):
        weight, bias = quantized.layer_params(node)
        layer = partial(_layer, weight, bias)
    return lambda *operands: compute(quantized.graph, node, *operands, layer=layer)


def _on_levels(quantized: QuantizedGraph, node: Node) -> Callable[..., Tensor]:
    """What the program's integers stand for, from reals that stand for integers."""
    if node.op == "input":
        return lambda x: fake_quantize(x, quantized.qparams(node.name))
    values = {name: value_of(quantized, quantized.graph[name]) for name in (*node.inputs, node.name)}
    op = lower_node(quantized, node, values)
    program = Program(values=values, ops=(op,), input=node.inputs[0], output=node.name, requantize="float")
    own = level_function(op, program)
    scales = [values[name].scale for name in node.inputs]

    def step(*reals: Tensor) -> Tensor:
        with torch.inference_mode():
            centred = (torch.round(real / scale) for real, scale in zip(reals, scales, strict=True))
            return own(*centred).mul_(values[node.name].scale)

    return step


def _layer(weight: Tensor, bias: Tensor | None, node: Node, *operands: Tensor) -> Tensor:
    return pre_activation(node, weight, bias, *operands)
