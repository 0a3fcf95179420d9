"""Islands of float in a program: nodes that are computed by their float function, between integers.

Both sides of the wall meet here: `lower_island` writes a node down as the program's operator, and the kernel
(`stages.integer.kernels.island`) finds the function again by `prepare`. Simulation and program call the same
function in float64, so that their levels are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import alternatives
from stages.graph.ir import Node
from stages.graph.operators.registry import operators
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import bounds
from stages.integer.program import Op, Value


def lower_island(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """A node as an operator of the program that computes its float function."""
    tensors = {role: tensor.numpy() for role, tensor in quantized.graph.roles(node).items()}
    attributes = {name: value for name, value in node.attrs.items() if name not in ("why", "complex")}
    return Op(
        op="island",
        inputs=node.inputs,
        output=node.name,
        attrs={"operator": node.op, "attributes": attributes, **bounds(node, values[node.name])},
        tensors=tensors,
    )


def is_island(quantized: QuantizedGraph, node: Node) -> bool:
    """Whether a node, other than a layer, stays float."""
    return node.op == "aten" or node.name in quantized.floats


def prepare(op: Op) -> Callable[..., NDArray[np.float64]]:
    """The function of an island: float64 arrays (N, *shape) to one. ValueError for an unknown operator."""
    value = _function(op)
    params = {role: torch.from_numpy(np.array(tensor)) for role, tensor in op.tensors.items()}
    params = {role: t.double() if t.is_floating_point() else t for role, t in params.items()}

    def run(*operands: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.inference_mode():
            y = value(op.attrs["attributes"], params, *map(torch.from_numpy, operands))
        result: NDArray[np.float64] = y.numpy().astype(np.float64)
        return result

    return run


def output_shape(op: Op, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of one sample of an island's value; nothing is computed for it.

    Raises:
        ValueError: the function does not take such operands.
    """
    params = {role: torch.from_numpy(np.array(tensor)).to("meta") for role, tensor in op.tensors.items()}
    operands = [torch.empty((2, *shape), device="meta") for shape in shapes]
    value = _function(op)
    try:
        return tuple(value(op.attrs["attributes"], params, *operands).shape[1:])
    except Exception as error:  # whatever torch, or a damaged attribute, raises
        raise ValueError(f"island of '{op.attrs['operator']}': {error}") from error


def _function(op: Op) -> Callable[..., Tensor]:
    name = op.attrs["operator"]
    if name not in operators():
        raise ValueError(f"operator: {alternatives(str(name), operators())}")
    return operators()[name].value
