"""What a network computes: operations by node, for one sample.

A layer and a product of matrices count their multiply-accumulates, ``elements of the value · terms of a
sum``; an island of traced calls those of its calls, and at least the elements of its value for each call;
every other operator the elements of its value. Input and constants are there, and count nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer, operator
from stages.integer.program import Op, Program

NOTHING = ("input", "constant")
SAMPLES = 2
"""That a traced call is asked for: of one, dimensions might vanish."""


def operations(graph: Graph) -> dict[str, int]:
    """The operations of every node, by its name, in order of execution."""
    shapes = {node.name: node.shape for node in graph.nodes}
    return {node.name: _count(graph, node, shapes) for node in graph.nodes}


def multiply_accumulates(graph: Graph) -> dict[str, int]:
    """Those of them that multiply and add: of layers, and of products of matrices, by name."""
    layers = {node.name for node in graph.nodes if is_layer(node) or node.op == "matmul"}
    return {name: count for name, count in operations(graph).items() if name in layers}


def program_multiply_accumulates(program: Program) -> int:
    """The multiply-accumulates of a program's layers and products of matrices, for one sample."""
    counts = program_operations(program)
    return sum(counts[op.output] for op in program.ops if "weight" in op.tensors or op.op == "matmul")


def program_operations(program: Program) -> dict[str, int]:
    """The same of a program, by value: of a layer with a residual without it, of an island its elements."""
    return {op.output: _count_op(op, program) for op in program.ops}


def _count_op(op: Op, program: Program) -> int:
    elements = prod(program.values[op.output].shape)
    if op.op in NOTHING:
        return 0
    if "weight" in op.tensors:
        channels = program.values[op.output].shape[-1 if op.op.endswith("linear") else 0]
        return (
            elements // channels * int(op.tensors["weight"].size)
        )  # of groups of inputs, each row is several
    return elements * (program.values[op.inputs[0]].shape[-1] if op.op == "matmul" else 1)


def traced_calls(node: Node) -> tuple[str, ...]:
    """The functions of ATen that an island was traced from, as ``cumsum``; none of any other node."""
    return tuple(call[0].partition(".")[0] for call in node.attrs.get("calls", ()))


def _count(graph: Graph, node: Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    elements = prod(node.shape)
    if node.op in NOTHING:
        return 0
    if is_layer(node):
        return elements * graph.params[node.params["weight"]][0].numel()
    if node.op == "matmul":
        return elements * shapes[node.inputs[0]][-1]
    if calls := traced_calls(node):
        return max(elements * len(calls), _products(graph, node, shapes))
    return elements


def _products(graph: Graph, node: Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The multiply-accumulates of a traced node, followed without computing; 0 where it cannot be."""
    operands = [torch.empty((SAMPLES, *shapes[name]), device="meta") for name in node.inputs]
    params: dict[str, Tensor] = {role: tensor.to("meta") for role, tensor in graph.roles(node).items()}
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            operator(node).value(node.attrs, params, *operands)
    except Exception:  # a function whose result's shape depends on values
        return 0
    return int(counter.get_total_flops()) // 2 // SAMPLES
