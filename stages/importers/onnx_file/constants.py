"""Constants of a float graph: how nodes hold them, and what nodes are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from stages.importers.onnx_file.reading import OnnxGraph, OnnxNode
from stages.importers.onnx_file.tensors import Array

ROLES: Mapping[str, tuple[str, ...]] = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("left", "weight", "bias"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("", "weight", "bias"),
    "GroupNormalization": ("", "weight", "bias"),
    "LayerNormalization": ("", "weight", "bias"),
    "RMSNormalization": ("", "weight"),
    "PRelu": ("", "weight"),
    "Gather": ("weight", "indices"),
}
"""What constants are called, by place."""


LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"})
"""Operators that a module of their own stands for, as a rule."""


PLAIN = frozenset(
    ["Clip", "Pad", "Resize", "Upsample", "Dropout", "Reshape", "Expand", "Tile", "Slice", "TopK", "OneHot"]
)
"""Operators that read all but their first operand as numbers."""


TRAINED = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "BatchNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "PRelu",
        "Add",
        "Gather",
    ]
)
"""Operators whose float constants are parameters."""


def held(
    node: OnnxNode, place: int, name: str, value: Array, shared: dict[tuple[str, str], Tensor]
) -> Tensor | Array:
    """A constant as its operator holds it; one tensor where several operators read it alike (`shared`)."""
    if value.dtype.kind != "f" or (node.op in PLAIN and place > 0):
        return value
    form = ""
    if (node.op == "MatMul" and place == 1 and value.ndim == 2) or (
        node.op == "Gemm" and place == 1 and not node.attrs.get("transB", 0)
    ):
        form, value = "transposed", value.T
    trained = node.op in TRAINED and not (node.op == "BatchNormalization" and place > 2)
    form += "parameter" if trained else "buffer"
    if (name, form) not in shared:
        tensor = torch.from_numpy(np.array(value, np.float32, order="C"))
        shared[name, form] = nn.Parameter(tensor) if trained else tensor
    return shared[name, form]


def with_biases(graph: OnnxGraph) -> list[OnnxNode]:
    """The nodes; what is added to a product by a constant matrix is the product's third operand."""
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    reads.update(graph.outputs)
    products = {
        node.outputs[0]: node
        for node in graph.nodes
        if node.op == "MatMul"
        and (weight := graph.constants.get(node.inputs[1])) is not None
        and weight.ndim == 2
        and reads[node.outputs[0]] == 1
    }
    nodes: list[OnnxNode] = []
    taken: set[str] = set()
    for node in graph.nodes:
        operands = [*node.inputs, *reversed(node.inputs)] if node.op == "Add" else []
        for product, term in zip(operands[::2], operands[1::2], strict=True):
            bias = graph.constants.get(term)
            if product in products and bias is not None:
                own = products[product]
                if bias.shape == graph.constants[own.inputs[1]].shape[1:]:
                    nodes.append(
                        OnnxNode(
                            op="MatMul",
                            name=own.name,
                            inputs=(*own.inputs, term),
                            outputs=node.outputs,
                            attrs=own.attrs,
                        )
                    )
                    taken.add(product)
                    break
        else:
            nodes.append(node)
    return [node for node in nodes if node.outputs[0] not in taken]


def path_of(node: OnnxNode, graph: OnnxGraph) -> str:
    """The module path of a node: of its weight, else of its name; no part is an attribute of modules."""
    for name in node.inputs[1:]:
        if name in graph.constants and (found := re.fullmatch(r"(\w+(?:\.\w+)*)\.weight", name)):
            return _free(found.group(1))
    scopes: list[str] = []
    for scope in filter(None, node.name.split("/")):
        # torch repeats the path of a list's module in that of its member: /layer1/layer1.0/conv1
        if scopes and scope.startswith(f"{scopes[-1]}."):
            scopes.pop()
        scopes.append(scope)
    if len(scopes) > 1 and node.op in LAYERS and scopes[-1].startswith(node.op):
        scopes.pop()  # the module is the operator
    return _free(".".join(scopes))


def _free(path: str) -> str:
    parts = filter(None, re.split(r"[^\w]+", path))
    return ".".join(f"{part}_" if part in _RESERVED else part for part in parts) or "node"


_RESERVED = {
    *dir(nn.Module()),
    "node",
    "opset",
    "batch",
    "attr",
    "constant",
    "operands",
    "check",
    *(r for rs in ROLES.values() for r in rs),
}
