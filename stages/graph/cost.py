"""What a network computes: operations by node, for one sample.

A layer and a product of matrices count their multiply-accumulates, ``elements of the value · terms of a
sum``; every other operator the elements of its value. Input and constants are there, and count nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer

NOTHING = ("input", "constant")
_PRODUCTS = ("matmul", "bmm", "mm", "einsum")
"""Functions of ATen that multiply two values, where they are traced as islands."""


def operations(graph: Graph) -> dict[str, int]:
    """The operations of every node, by its name, in order of execution."""
    shapes = {node.name: node.shape for node in graph.nodes}
    return {node.name: _count(graph, node, shapes) for node in graph.nodes}


def _count(graph: Graph, node: Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if node.op in NOTHING:
        return 0
    return prod(node.shape) * _terms(graph, node, shapes)


def _terms(graph: Graph, node: Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many products a value's element is the sum of; 1 where it is none."""
    if is_layer(node):
        return graph.params[node.params["weight"]][0].numel()
    function = _traced(node)
    if node.op == "matmul" or (function in _PRODUCTS and len(node.inputs) > 1):
        first = shapes[node.inputs[0]]
        return first[-1] if first else 1
    if function == "scaled_dot_product_attention" and len(node.inputs) > 1:
        keys = shapes[node.inputs[1]]
        return 2 * keys[-2] if len(keys) > 1 else 1
    if function.startswith(("conv", "linear", "addmm", *_PRODUCTS)):
        weights = [tensor for tensor in graph.roles(node).values() if tensor.ndim > 1]
        return max((weight[0].numel() for weight in weights), default=1)
    return 1


def _traced(node: Node) -> str:
    """The function of ATen that an island was traced from; empty for anything else."""
    if node.op != "aten":
        return ""
    call = node.attrs.get("call")
    return str(call[0]).partition(".")[0] if call else ""
