"""An ONNX file as nodes and arrays, checked: what a file says is not believed before it is seen.

A file may be cut short, hold sizes that its data does not fill, refer to files elsewhere, or read values that
nothing computes. Each is one ValueError here, so that who translates the nodes needs not look again.
The format: https://onnx.ai/onnx/repo-docs/IR.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import AttributeProto, inliner

from stages.importers.onnx_file.tensors import Array, external_files, to_array

MOST_BYTES = 2**31 - 1
"""The largest message of protobuf; larger networks keep their tensors in files beside it."""

OPSETS = (7, 26)
"""The versions of ONNX's operators that are known."""

MISFITS = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RuntimeError)
"""What attributes and operands raise that are not what their reader takes."""

DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """One node.

    Args:
        op: the type, with its domain before it where that is not ONNX's: ``com.microsoft.QLinearAdd``.
        name: its own, else that of its first output.
        inputs: names of tensors; empty for one that is left out.
        outputs: likewise.
        attrs: numbers, text, lists of them, and arrays.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """For messages: type and name."""
        return f"{self.op} '{self.name}'"


@dataclass(frozen=True, kw_only=True)
class OnnxInput:
    """An input of the graph: a dimension that is left open is None; `shape` is None where none is given."""

    name: str
    shape: tuple[int | None, ...] | None
    integers: bool
    dtype: str


@dataclass(frozen=True, kw_only=True)
class OnnxGraph:
    """What the file holds, constants computed by no node, nodes in order and each of use for an output.

    Args:
        nodes: in an order in which each reads what is there.
        constants: initializers, and the values of ``Constant`` nodes.
        inputs: without those that are initializers too.
        outputs: names of tensors.
        opset: the version of ONNX's operators.
        metadata: texts by key.
    """

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    opset: int
    metadata: Mapping[str, str]


def read_graph(path: Path) -> OnnxGraph:
    """Read and check a file.

    Raises:
        ValueError: it is missing, damaged, of an unknown version, holds subgraphs or sparse tensors, or its
            nodes do not fit together; names the file, the tensor or operator, and a remedy.
    """
    try:
        return _checked(_parsed(path), path.parent)
    except MISFITS as error:
        text = str(error) if isinstance(error, ValueError) else f"the file is damaged ({error})"
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def files_of(path: Path) -> list[Path]:
    """The file, and those beside it that its tensors lie in; raises as `read_graph` does."""
    return [path, *(file for file in external_files(_parsed(path), path.parent) if file.is_file())]


def _parsed(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ValueError(f"{path}: no such file (looked in {Path.cwd()})")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(
            f"{path}: {size} bytes, more than the format's {MOST_BYTES}. Remedy: keep the tensors in a file "
            "beside it, onnx.save(model, path, save_as_external_data=True)"
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(
            f"{path}: no readable ONNX file; it may be damaged or cut short ({error})"
        ) from error
    if not model.ir_version or not model.graph.output:
        raise ValueError(f"{path}: no ONNX file, or one without outputs; it may be damaged or cut short")
    return model


def _checked(model: onnx.ModelProto, folder: Path) -> OnnxGraph:
    versions = {opset.domain: opset.version for opset in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ValueError(
            f"operators of version {opset}, and {OPSETS[0]}..{OPSETS[1]} are known. "
            "Remedy: onnx.version_converter.convert_version(model, 17)"
        )
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except (RuntimeError, ValueError, EncodeError) as error:
            raise ValueError(f"its functions cannot be written out ({error})") from error
    graph = model.graph
    if graph.sparse_initializer:
        raise ValueError(
            f"tensor '{graph.sparse_initializer[0].values.name}' is sparse. Remedy: store it dense"
        )
    _check_texts(*(one.name for one in (*graph.initializer, *graph.input, *graph.output)))
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        if tensor.name in constants:
            raise ValueError(f"tensor '{tensor.name}' is there twice; the file is damaged")
        constants[tensor.name] = to_array(tensor, folder)
    inputs = tuple(_input(info) for info in graph.input if info.name not in constants)
    nodes = []
    for node in (_node(proto, folder) for proto in graph.node):
        if node.op == "Constant":
            constants[node.outputs[0]] = _constant(node)
        else:
            nodes.append(node)
    outputs = tuple(info.name for info in graph.output)
    _check_order(nodes, {*constants, *(one.name for one in inputs)}, outputs)
    return OnnxGraph(
        nodes=tuple(_of_use(nodes, outputs)),
        constants=constants,
        inputs=inputs,
        outputs=outputs,
        opset=opset,
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def _input(info: onnx.ValueInfoProto) -> OnnxInput:
    kind = info.type.tensor_type
    shape = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
        if any(size is not None and not 0 < size < 2**31 for size in shape):
            raise ValueError(f"input '{info.name}': sizes {list(shape)} must be 1..2^31-1")
    types = onnx.TensorProto.DataType
    name = types.Name(kind.elem_type) if kind.elem_type in types.values() else str(kind.elem_type)
    return OnnxInput(name=info.name, shape=shape, integers=name in ("INT32", "INT64"), dtype=name.lower())


def _node(proto: onnx.NodeProto, folder: Path) -> OnnxNode:
    name = proto.name or next(iter(proto.output), "")
    _check_texts(proto.name, proto.op_type, *proto.input, *proto.output, *(a.name for a in proto.attribute))
    if proto.domain not in DOMAINS:
        raise ValueError(
            f"{proto.op_type} '{name}' is of domain '{proto.domain}', which is not known. "
            "Remedy: export the network with ONNX's own operators"
        )
    if not proto.output or not proto.output[0]:
        raise ValueError(f"{proto.op_type} '{name}' computes nothing; the file is damaged")
    attrs = {}
    for attribute in proto.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            raise ValueError(
                f"{proto.op_type} '{name}' holds a graph of its own: control flow is not read. "
                "Remedy: export the network without loops and branches, or simplify it (onnxsim)"
            )
        if attribute.type in (AttributeProto.TENSOR, AttributeProto.TENSORS):
            attrs[attribute.name] = to_array(attribute.t, folder)
        else:
            attrs[attribute.name] = _plain(onnx.helper.get_attribute_value(attribute))
    domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
    return OnnxNode(
        op=f"{domain}{proto.op_type}",
        name=name,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attrs=attrs,
    )


def _check_texts(*names: object) -> None:
    """Raise where a name is not UTF-8, which protobuf then gives as bytes."""
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"the name {wrong[0]!r} is no text; the file is damaged")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, int | float | str) else [_plain(item) for item in value]


def _constant(node: OnnxNode) -> Array:
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64)):
        if name in node.attrs:
            return np.array(node.attrs[name], dtype)
    for name in ("value_float", "value_floats"):
        if name in node.attrs:
            return np.array(node.attrs[name], np.float32)
    if "value" not in node.attrs:
        raise ValueError(f"{node}: holds {', '.join(node.attrs) or 'nothing'}, which is not read")
    value: Array = node.attrs["value"]
    return value


def _check_order(nodes: list[OnnxNode], there: set[str], outputs: tuple[str, ...]) -> None:
    """Each node reads what is there, and computes what is not."""
    later = {name for node in nodes for name in node.outputs}
    for node in nodes:
        for name in node.inputs:
            if name and name not in there:
                why = (
                    "a later node computes: the nodes go round in a circle, or are not in order"
                    if name in later
                    else "nothing computes, and no initializer holds"
                )
                raise ValueError(f"{node} reads '{name}', which {why}; the file is damaged")
        for name in filter(None, node.outputs):
            if name in there:
                raise ValueError(f"{node} computes '{name}', which is there already; the file is damaged")
            there.add(name)
    for name in outputs:
        if name not in there:
            raise ValueError(f"nothing computes the output '{name}'; the file is damaged")


def _of_use(nodes: list[OnnxNode], outputs: tuple[str, ...]) -> Iterator[OnnxNode]:
    """The nodes that an output depends on, in order."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return reversed(kept)
