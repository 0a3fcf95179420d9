"""The operators by name, gathered from the modules of `stages.graph.operators`."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

import stages.graph.operators
from pipeline.errors import alternatives
from stages.graph.ir import Graph, Node
from stages.graph.operators.operator import Operator, PrepareLevels


@cache
def operators() -> Mapping[str, Operator]:
    """All operators, by name."""
    found: dict[str, Operator] = {}
    for module in pkgutil.iter_modules(stages.graph.operators.__path__):
        own: tuple[Operator, ...] = getattr(
            import_module(f"stages.graph.operators.{module.name}"), "OPERATORS", ()
        )
        found |= {operator.name: operator for operator in own}
    return found


def operator(node: Node) -> Operator:
    """What a node's operator is. Raises ValueError, listing the names, for one that there is not."""
    known = operators()
    if node.op not in known:
        raise ValueError(f"'{node.name}': unknown operator '{node.op}'; {alternatives(node.op, known)}")
    return known[node.op]


@cache
def level_functions() -> Mapping[str, PrepareLevels]:
    """Torch's ways to the integers, by the name of the program's operator."""
    return {name: prepare for own in operators().values() for name, prepare in own.levels.items()}


def is_layer(node: Node) -> bool:
    """Whether it has a weight, which is quantized."""
    return operator(node).kind == "layer"


def moves(node: Node) -> bool:
    """Whether it only selects or moves values."""
    return operator(node).kind == "moves"


def is_opaque(node: Node) -> bool:
    """Whether it computes levels in a way of its own, as a table, for which torch has no terms."""
    own = operator(node)
    return own.kind == "computes" and not own.levels


def output_shape(graph: Graph, node: Node, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of one sample of a node's value, as its float function gives it for operands of `shapes`."""
    operands = [torch.empty((1, *shape), device="meta") for shape in shapes]
    params: dict[str, Tensor] = {role: tensor.to("meta") for role, tensor in graph.roles(node).items()}
    return tuple(operator(node).value(node.attrs, params, *operands).shape[1:])
