"""The float network and its simulation side by side: a node at a time, over all calibration samples.

A correction of one layer shows in the inputs of the next, so layers are corrected in execution order, each
with the values that the corrected layers before it give. Every node is computed once in either form, and its
values are kept until their last reader has run. What is corrected at once may be a layer, or a *block*: nodes
in a row, whose layers are corrected together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
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


@dataclass(frozen=True, kw_only=True)
class BlockInputs:
    """What a block reads and gives, over all calibration samples.

    Args:
        nodes: in execution order, which no other node interrupts.
        floats: by name, what it reads of other nodes, in the float network, each (N, *shape).
        simulated: the same in the simulation, the blocks before it corrected.
        targets: by name, the float network's values that later nodes read, or that the network gives.
    """

    nodes: tuple[Node, ...]
    floats: Mapping[str, Tensor]
    simulated: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]

    @property
    def samples(self) -> int:
        """N."""
        return len(next(iter(self.targets.values())))


Correct = Callable[[QuantizedGraph, LayerInputs], QuantizedGraph]
"""Corrects one layer; what it returns is used from there on."""

CorrectBlock = Callable[[QuantizedGraph, BlockInputs], QuantizedGraph]
"""Corrects one block, likewise."""


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

        def layer(quantized: QuantizedGraph, block: BlockInputs) -> QuantizedGraph:
            (node,) = block.nodes
            if node.name not in quantized.weights:
                return quantized
            floats, simulated = (
                tuple(side[name] for name in node.inputs) for side in (block.floats, block.simulated)
            )
            return correct(quantized, LayerInputs(node=node, floats=floats, simulated=simulated))

        return self.correct_blocks(quantized, x, ((node,) for node in quantized.graph.nodes[1:]), layer)

    def correct_blocks(
        self, quantized: QuantizedGraph, x: Tensor, blocks: Iterable[tuple[Node, ...]], correct: CorrectBlock
    ) -> QuantizedGraph:
        """Correct a network block by block.

        Args:
            quantized: the calibrated network.
            x: the calibration samples, float32 (N, *input shape).
            blocks: all nodes but the input, in execution order.
            correct: called with each block.
        """
        graph = quantized.graph
        values = Values(self.memory * MIB, self.folder)
        last_reader = {name: node.name for node in graph.nodes for name in node.inputs}

        def compute(
            form: str, node: Node, step: Callable[..., Tensor], kept: AbstractSet[str] = frozenset()
        ) -> None:
            if node.name not in last_reader and node.name != graph.output:
                return
            out = values.allocate(f"{form}|{node.name}", (len(x), *node.shape))
            operands = tuple(values[f"{form}|{name}"] for name in node.inputs)
            self._compute(out, operands or (x,), step)
            del operands
            for name in {name for name in node.inputs if last_reader[name] == node.name} - kept:
                values.drop(f"{form}|{name}")

        compute("float", graph.input, _float(graph, graph.input))
        compute("simulated", graph.input, _simulated(quantized, graph.input))
        for block in blocks:
            own = {node.name for node in block}
            reads = {name for node in block for name in node.inputs} - own
            gives = {n for n in own if n == graph.output or last_reader.get(n, n) not in own}
            for node in block:
                compute("float", node, _float(graph, node), reads | gives)
            inputs = BlockInputs(
                nodes=block,
                floats={name: values[f"float|{name}"] for name in reads},
                simulated={name: values[f"simulated|{name}"] for name in reads},
                targets={name: values[f"float|{name}"] for name in gives},
            )
            quantized = correct(quantized, inputs)
            del inputs
            for node in block:
                compute("simulated", node, _simulated(quantized, node), reads | gives)
            for name in {n for n in reads | gives if last_reader.get(n, graph.output) in own}:
                values.drop(f"float|{name}")
                values.drop(f"simulated|{name}")
        return quantized

    def _compute(self, out: Tensor, operands: tuple[Tensor, ...], step: Callable[..., Tensor]) -> None:
        for start in range(0, len(out), self.batch_size):
            rows = slice(start, start + self.batch_size)
            out[rows] = step(*(operand[rows] for operand in operands))


def simulation_of_block(
    quantized: QuantizedGraph, nodes: Iterable[Node]
) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """A block as the program computes it: from reals that it reads, by name, to those and all of its own."""
    steps = [(node, _simulated(quantized, node)) for node in nodes]

    def run(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = dict(values)
        for node, step in steps:
            found[node.name] = step(*(found[name] for name in node.inputs))
        return found

    return run


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
