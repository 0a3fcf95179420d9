"""Dropout: the identity in evaluation. See `stages.graph.dropout` for where it stands."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.graph.ir import Node
from stages.graph.operators.operator import Attributes, Operator, Parameters


def drop(node: Node, x: Tensor) -> Tensor:
    """What a node does to a value in training, by torch's global random numbers."""
    dropped: Tensor = getattr(torch, node.attrs["function"])(x, node.attrs["p"], True)
    return dropped


def _value(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    return x


OPERATORS = (
    Operator(
        name="dropout",
        kind="moves",
        attributes="function (torch's), p, the share that is dropped",
        value=_value,
        homogeneous=True,
    ),
)
