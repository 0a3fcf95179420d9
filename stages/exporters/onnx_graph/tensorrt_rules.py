"""TensorRT's rules for explicitly quantized ONNX files, each proven of any graph.

Sources: NVIDIA, *TensorRT documentation*, "Working with Quantized Types", "Explicit Quantization" with its
"Q/DQ Layer-Placement Recommendations" (10.x and 11.0); and the parser, onnx/onnx-tensorrt,
`onnxOpImporters.cpp`, `QuantDequantLinearHelper` (types, zero points, scales).

============  =============================================================================================
operator      ONNX's own operators, and no integer ones (QLinearConv, MatMulInteger, …): only
              QuantizeLinear and DequantizeLinear say what is quantized
type          int8, or types of 4 bits and float8; uint8, int16 and int32 are not read. Without a zero point,
              ONNX's QuantizeLinear gives uint8
zero_point    constant, 0 everywhere
scale         constant, positive and finite
pairs         QuantizeLinear feeds DequantizeLinear alone, and that reads a QuantizeLinear or a constant
inputs        where a layer's weight is quantized, its input is; of a product of two values, both or none
weights       a weight has a scale an output channel, a value one
bias          a layer's bias is float
residual      of what an Add reads beside a layer's own result, all is dequantized or constant
between       no quantization between a layer and its activation function, which alone reads it
============  =============================================================================================

A layer whose weight is float stays float, whatever it reads: TensorRT dequantizes before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

Rule = Literal[
    "operator",
    "type",
    "zero_point",
    "scale",
    "pairs",
    "inputs",
    "weights",
    "bias",
    "residual",
    "between",
]

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "Gelu", "Elu"})
INTEGER = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})
TYPES = frozenset({"INT8", "INT4", "FLOAT8E4M3FN", "FLOAT4E2M1"})
REMEDIES: Mapping[Rule, str] = {
    "operator": "export the network with QuantizeLinear and DequantizeLinear around float operators",
    "type": "store signed levels in int8; uint8 needs a symmetric scheme of signed levels",
    "zero_point": "quantize symmetrically",
    "scale": "make it an initializer, of positive numbers",
    "pairs": "move or select reals, between DequantizeLinear and QuantizeLinear",
    "inputs": "quantize both the layer's input and its weight",
    "weights": "a scale an output channel for weights, one for all for values",
    "bias": "keep the bias float",
    "residual": "quantize what is added to the layer's result",
    "between": "quantize behind the activation function, not before it",
}


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A rule that a node breaks.

    Args:
        rule: its name, see the module.
        node: the node's name, or its first output where it has none.
        problem: what is there.
    """

    rule: Rule
    node: str
    problem: str

    def __str__(self) -> str:
        return f"{self.rule}: '{self.node}': {self.problem}. Remedy: {REMEDIES[self.rule]}"


def violations(model: onnx.ModelProto) -> list[Violation]:
    """What breaks a rule in a model, its nested graphs included, in the order of nodes."""
    return list(_violations(model.graph, {}))


def _violations(graph: onnx.GraphProto, outer: Mapping[str, TensorProto]) -> Iterator[Violation]:
    constants = dict(outer) | {tensor.name: tensor for tensor in graph.initializer}
    computed = (
        (node.output[0], a) for node in graph.node if node.op_type == "Constant" for a in node.attribute
    )
    constants |= {name: attribute.t for name, attribute in computed if attribute.name == "value"}
    walk = _Walk(graph, constants)
    for node in graph.node:
        for rule, problem in walk.problems(node):
            yield Violation(rule=rule, node=node.name or node.output[0], problem=problem)
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                yield from _violations(nested, constants)


@dataclass
class _Walk:
    graph: onnx.GraphProto
    constants: Mapping[str, TensorProto]
    makers: dict[str, NodeProto] = field(default_factory=dict)
    readers: dict[str, list[NodeProto]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for node in self.graph.node:
            self.makers |= dict.fromkeys(node.output, node)
            for name in node.input:
                self.readers[name].append(node)

    def problems(self, node: NodeProto) -> Iterator[tuple[Rule, str]]:
        kind = node.op_type
        if node.domain not in ("", "ai.onnx"):
            yield "operator", f"{kind} of domain {node.domain} is not ONNX's"
        elif kind in INTEGER:
            yield "operator", f"{kind} is not read"
        if kind in ("QuantizeLinear", "DequantizeLinear"):
            yield from self._parameters(node)
        if kind == "QuantizeLinear":
            yield from self._quantize(node)
        if kind == "DequantizeLinear":
            yield from self._dequantize(node)
        if kind in LAYERS:
            yield from self._layer(node)
        if kind == "Add":
            yield from self._add(node)

    def _parameters(self, node: NodeProto) -> Iterator[tuple[Rule, str]]:
        scale = self._array(node.input[1])
        if scale is None:
            yield "scale", f"the scale '{node.input[1]}' is computed"
        elif not (np.isfinite(scale) & (scale > 0)).all():
            yield "scale", f"the scale is {_first(scale[~(np.isfinite(scale) & (scale > 0))])}"
        if len(node.input) > 2 and node.input[2]:
            zero_point = self._array(node.input[2])
            if zero_point is None:
                yield "zero_point", f"the zero point '{node.input[2]}' is computed"
            elif zero_point.any():
                yield "zero_point", f"the zero point is {_first(zero_point[zero_point != 0])}"

    def _quantize(self, node: NodeProto) -> Iterator[tuple[Rule, str]]:
        kind = self._kind(node)
        if kind not in TYPES:
            yield "type", f"gives {kind.lower()}"
        readers = self.readers[node.output[0]]
        if any(output.name == node.output[0] for output in self.graph.output):
            yield "pairs", "gives an output of the graph"
        if others := [reader.op_type for reader in readers if reader.op_type != "DequantizeLinear"]:
            yield "pairs", f"feeds {others[0]}"
        source = self.makers.get(node.input[0])
        if source is not None and source.op_type in LAYERS:
            behind = [r.op_type for reader in readers for r in self.readers[reader.output[0]]]
            if behind and ACTIVATIONS.issuperset(behind):
                yield "between", f"stands between {source.op_type} and {behind[0]}"

    def _dequantize(self, node: NodeProto) -> Iterator[tuple[Rule, str]]:
        source, constant = self.makers.get(node.input[0]), self.constants.get(node.input[0])
        if constant is not None:
            kind = TensorProto.DataType.Name(constant.data_type)
            if kind not in TYPES:
                yield "type", f"reads a constant of {kind.lower()}"
            return
        if source is None or source.op_type != "QuantizeLinear":
            yield "pairs", f"reads {'an input' if source is None else source.op_type}"
        scale = self._array(node.input[1])
        if scale is not None and scale.size > 1 and not self._of_constant(source):
            yield "weights", f"a value has {scale.size} scales"

    def _layer(self, node: NodeProto) -> Iterator[tuple[Rule, str]]:
        x, weight = (self.makers.get(name) for name in node.input[:2])
        constant = self._is_constant(node.input[1])
        quantized = [one is not None and one.op_type == "DequantizeLinear" for one in (x, weight)]
        if quantized[1] != quantized[0] and (quantized[1] or not constant):
            which = "input" if quantized[1] else "second factor"
            yield "inputs", f"the {which} of {node.op_type} is not quantized"
        if constant and quantized[1] and weight is not None:
            yield from self._weight(node, weight)
        if len(node.input) > 2 and node.input[2]:
            bias = self.makers.get(node.input[2])
            if bias is not None and bias.op_type == "DequantizeLinear":
                yield "bias", f"the bias of {node.op_type} is quantized"

    def _weight(self, node: NodeProto, weight: NodeProto) -> Iterator[tuple[Rule, str]]:
        scale, shape = self._array(weight.input[1]), self._shape(weight)
        if scale is None or shape is None:
            return
        axis, along = _channel_axis(node, len(shape)), _attribute(weight, "axis", 1) % len(shape)
        if (scale.size, scale.ndim) == (1, 1) and shape[axis] == 1:
            return
        if scale.ndim > 1 or (scale.size, along) != (shape[axis], axis):
            given = "one scale" if scale.size == 1 else f"{scale.size} scales along axis {along}"
            yield "weights", f"{given} for {shape[axis]} channels along axis {axis}"

    def _add(self, node: NodeProto) -> Iterator[tuple[Rule, str]]:
        own = [name for name in node.input if self._is_result(name)]
        if not own:
            return
        for name in [name for name in node.input if name != own[0]]:
            maker = self.makers.get(name)
            dequantized = maker is not None and maker.op_type == "DequantizeLinear"
            if not dequantized and not self._is_constant(name):
                yield "residual", f"adds '{name}', which is float, to a layer's result"

    def _is_result(self, name: str) -> bool:
        """Whether a tensor is a quantized layer's result, its bias added or not."""
        maker = self.makers.get(name)
        if maker is None:
            return False
        if maker.op_type == "Add":
            parts = [part for part in maker.input if not self._is_constant(part)]
            return len(parts) == 1 and self._is_result(parts[0])
        read = [self.makers.get(part) for part in maker.input[:2]]
        return maker.op_type in LAYERS and all(
            one is not None and one.op_type == "DequantizeLinear" for one in read
        )

    def _is_constant(self, name: str) -> bool:
        """A constant, or one through QuantizeLinear and DequantizeLinear."""
        maker = self.makers.get(name)
        through = maker is not None and maker.op_type in ("QuantizeLinear", "DequantizeLinear")
        return name in self.constants or (through and maker is not None and self._is_constant(maker.input[0]))

    def _of_constant(self, quantize: NodeProto | None) -> bool:
        return quantize is not None and self._is_constant(quantize.output[0])

    def _shape(self, dequantize: NodeProto) -> tuple[int, ...] | None:
        """The shape of a constant behind QuantizeLinear and DequantizeLinear."""
        name, maker = dequantize.input[0], self.makers.get(dequantize.input[0])
        if maker is not None:
            name = maker.input[0]
        return tuple(self.constants[name].dims) if name in self.constants else None

    def _kind(self, quantize: NodeProto) -> str:
        """The type that a QuantizeLinear gives."""
        if len(quantize.input) > 2 and quantize.input[2] in self.constants:
            number = self.constants[quantize.input[2]].data_type
        else:
            number = _attribute(quantize, "output_dtype", 0) or TensorProto.UINT8
        return str(TensorProto.DataType.Name(number))

    def _array(self, name: str) -> NDArray[Any] | None:
        if name not in self.constants:
            return None
        array: NDArray[Any] = np.atleast_1d(numpy_helper.to_array(self.constants[name]))
        return array.astype(np.float64)


def _channel_axis(node: NodeProto, rank: int) -> int:
    """The dimension of a layer's weight that is its output channel."""
    axes = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if _attribute(node, "transB", 0) else 1}
    return axes.get(node.op_type, rank - 1)


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def _first(values: NDArray[Any]) -> str:
    return f"{values.reshape(-1)[0]:g}"
