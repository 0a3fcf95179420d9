"""A QDQ graph taken apart: the float graph, and the encodings that AIMET and QAIRT's converter read.

An encoding says of a tensor how it is quantized (qualcomm/aimet, ``Docs/techniques/encoding_spec.rst``):

- 2.0.0 has ONNX's words and signs: ``real = y_scale · (q − y_zero_point)``, ``q`` of type `output_dtype`;
- 1.0.0 has QNN's: ``real = scale · (q + offset)``, ``q`` from 0 on. So ``offset = −y_zero_point`` of unsigned
  types, and ``−(y_zero_point + 2^(bw−1))`` of signed ones: −128 of symmetric weights of 8 bits.

Biases have int32 encodings at the scale of the accumulator: without them QAIRT's converter would fall back to
float (qualcomm/aimet issue 4090).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

EncodingsVersion = Literal["2.0.0", "1.0.0"]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How one tensor of the float graph is quantized.

    Args:
        name: of the tensor.
        scale: float32, of no dimension or (C,).
        zero_point: in the dtype of the levels, shaped as `scale`.
        axis: of the channels; None where there is one scale.
        parameter: whether the tensor is an initializer.
    """

    name: str
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    axis: int | None
    parameter: bool

    def in_onnx_words(self) -> dict[str, Any]:
        """An entry of version 2.0.0."""
        entry = {
            "name": self.name,
            "output_dtype": self.zero_point.dtype.name,
            "y_scale": self.scale.tolist(),
            "y_zero_point": self.zero_point.tolist(),
        }
        return entry if self.axis is None else {**entry, "axis": self.axis}

    def in_qnn_words(self) -> dict[str, Any]:
        """An entry of version 1.0.0."""
        offset = np.iinfo(self.zero_point.dtype).min - self.zero_point.astype(np.int64)
        return {
            "name": self.name,
            "enc_type": "PER_TENSOR" if self.axis is None else "PER_CHANNEL",
            "dtype": "INT",
            "bw": 8 * self.zero_point.itemsize,
            "is_sym": self.zero_point.dtype.kind == "i" and not self.zero_point.any(),
            "scale": np.atleast_1d(self.scale).tolist(),
            "offset": np.atleast_1d(offset).tolist(),
        }


def encodings_document(encodings: Sequence[Encoding], version: EncodingsVersion) -> dict[str, Any]:
    """What the JSON file of that version says."""
    if version == "2.0.0":
        return {"version": version, "encodings": [one.in_onnx_words() for one in encodings]}
    entries = {
        role: [one.in_qnn_words() for one in encodings if one.parameter == parameter]
        for role, parameter in (("activation_encodings", False), ("param_encodings", True))
    }
    arguments = {
        "activation_bitwidth": 8,
        "param_bitwidth": 8,
        "dtype": "int",
        "is_symmetric": all(entry["is_sym"] for entry in entries["param_encodings"]),
        "per_channel_quantization": any(one.axis is not None for one in encodings),
        "quant_scheme": "post_training_tf",
    }
    return {"version": version, **entries, "quantizer_args": arguments, "excluded_layers": []}


def take_apart(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Encoding]]:
    """The float model, and an encoding for each tensor that `model` quantizes, in order.

    Levels ``<name>/q`` are the tensor ``<name>``, or ``<name>/value`` where the graph's input or output has
    that name. Weights are the reals that their levels stand for: quantized again, they are these levels.
    """
    parts = _Parts({tensor.name: tensor for tensor in model.graph.initializer})
    for node in model.graph.node:
        parts.add(node)
    used = {name for node in parts.nodes for name in node.input}
    kept = [tensor for name, tensor in (parts.initializers | parts.floats).items() if name in used]
    inputs, outputs = list(model.graph.input), [model.graph.output[0]]
    graph = helper.make_graph(parts.nodes, model.graph.name, inputs, outputs, kept)
    apart = helper.make_model(
        graph, opset_imports=list(model.opset_import), producer_name=model.producer_name
    )
    apart.ir_version = model.ir_version
    return apart, parts.encodings


class _Parts:
    """The float nodes so far; `reals` says which of their tensors takes a tensor's place."""

    def __init__(self, initializers: dict[str, onnx.TensorProto]) -> None:
        self.initializers = initializers
        self.floats: dict[str, onnx.TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.encodings: list[Encoding] = []
        self._reals: dict[str, str] = {}
        self._levels: dict[str, onnx.NodeProto] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """One node of the QDQ graph."""
        if node.op_type == "QuantizeLinear":
            self._quantized(node)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self.initializers:
            self._parameter(node)
        elif node.op_type == "DequantizeLinear":
            self._reals[node.output[0]] = self._reals[node.input[0]]
        else:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [self._number(name) for name in node.input]
            self.nodes.append(copy)

    def _quantized(self, node: onnx.NodeProto) -> None:
        real, name = self._reals.get(node.input[0], node.input[0]), node.output[0].removesuffix("/q")
        name = f"{name}/value" if name in ("input", "output") else name
        makers = [maker for maker in self.nodes if node.input[0] in maker.output]
        if real == "input":
            name = real
        elif makers and real == node.input[0]:
            makers[0].output[0] = makers[0].name = name
            self._reals[real] = name
        else:  # levels of other levels
            self.nodes.append(helper.make_node("Identity", [real], [name], name=name))
        self._reals[node.output[0]], self._levels[node.output[0]] = name, node
        self._encode(name, node, axis=None, parameter=False)

    def _parameter(self, node: onnx.NodeProto) -> None:
        levels, scale, zero_point = (self._array(name) for name in node.input)
        axis = next((attribute.i for attribute in node.attribute), 1) if scale.ndim else None
        if axis is not None:
            shape = [-1 if i == axis else 1 for i in range(levels.ndim)]
            scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
        reals = (levels.astype(np.float64) - zero_point) * scale.astype(np.float64)
        name = node.input[0]
        self._reals[node.output[0]] = name
        self.floats[name] = numpy_helper.from_array(reals.astype(np.float32), name)
        self._encode(name, node, axis=axis, parameter=True)

    def _encode(self, name: str, node: onnx.NodeProto, *, axis: int | None, parameter: bool) -> None:
        scale, zero_point = (self._array(constant) for constant in node.input[1:])
        self.encodings.append(
            Encoding(name=name, scale=scale, zero_point=zero_point, axis=axis, parameter=parameter)
        )

    def _number(self, name: str) -> str:
        """What a float node takes for a tensor; for levels, which indices are made of, their numbers."""
        quantizer = self._levels.get(name)
        if quantizer is None:
            return self._reals.get(name, name)
        scale, zero_point = quantizer.input[1:]
        steps = helper.make_node("Div", [self._reals[name], scale], [f"{name}/steps"])
        levels = helper.make_node("Round", [f"{name}/steps"], [f"{name}/rounded"])
        first = helper.make_node("Cast", [zero_point], [f"{name}/first"], to=TensorProto.FLOAT)
        number = helper.make_node("Add", [f"{name}/rounded", f"{name}/first"], [f"{name}/number"])
        if f"{name}/number" not in {output for node in self.nodes for output in node.output}:
            self.nodes += [steps, levels, first, number]
        return f"{name}/number"

    def _array(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = numpy_helper.to_array(self.initializers[name])
        return array
