"""A float file's contents as a graph of ONNX's operators, which `stages.importers.onnx_file.network` runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from pipeline.errors import alternatives
from stages.importers.onnx_file.network import OnnxNetwork
from stages.importers.onnx_file.reading import OnnxGraph, OnnxInput
from stages.importers.onnx_file.tensors import Array
from stages.importers.tflite_file.contents import TfliteContents, TfliteOperator, TfliteTensor
from stages.importers.tflite_file.floats import elements, layers, moves
from stages.importers.tflite_file.floats.reader import FloatReader

log = logging.getLogger(__name__)

READERS: Mapping[str, Callable[[FloatReader, TfliteOperator], None]] = {
    "CONV_2D": layers.conv2d,
    "DEPTHWISE_CONV_2D": layers.depthwise_conv2d,
    "TRANSPOSE_CONV": layers.transpose_conv,
    "FULLY_CONNECTED": layers.fully_connected,
    "BATCH_MATMUL": layers.batch_matmul,
    "AVERAGE_POOL_2D": partial(layers.pool, "AveragePool"),
    "MAX_POOL_2D": partial(layers.pool, "MaxPool"),
    **dict.fromkeys(elements.BINARY, elements.binary),
    **dict.fromkeys([*elements.UNARY, *elements.CLIPPED], elements.unary),
    **dict.fromkeys(("LEAKY_RELU", "GELU", "SQUARE", "RSQRT"), elements.unary),
    **dict.fromkeys(elements.REDUCTIONS, elements.reduction),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX"), elements.softmax),
    "L2_NORMALIZATION": elements.l2_normalization,
    "PRELU": elements.prelu,
    **dict.fromkeys(("CAST", "DEQUANTIZE"), elements.same),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), moves.reshape),
    "TRANSPOSE": moves.transpose,
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), moves.pad),
    "CONCATENATION": moves.concatenation,
    **dict.fromkeys(("SPLIT", "SPLIT_V"), moves.split),
    **dict.fromkeys(("GATHER", "EMBEDDING_LOOKUP"), moves.gather),
    **dict.fromkeys(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"), moves.resize),
    **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH"), moves.blocks),
    "STRIDED_SLICE": moves.strided_slice,
    "SLICE": moves.slices,
    "TILE": moves.tile,
}
"""By operator: what reads it."""

OPSET = 18
"""The version of ONNX's operators that the nodes are of."""


class TfliteFile:
    """A float file, read once.

    Args:
        path: of the file.
        contents: what it says.

    Raises:
        ValueError: an operator that is not known, or tensors that do not fit it; names it.
    """

    def __init__(self, path: Path, contents: TfliteContents) -> None:
        self.files = [path]
        self._graph = float_graph(contents)

    @property
    def inputs(self) -> tuple[OnnxInput, ...]:
        """The inputs, images with channels first."""
        return self._graph.inputs

    def network(self) -> nn.Module:
        """The float network, each of whose inputs has its name in the file."""
        return OnnxNetwork(self._graph)


def float_graph(contents: TfliteContents) -> OnnxGraph:
    """The graph of a float file: inputs and outputs bear their tensors' names, the batch is any.

    Raises:
        ValueError: as `TfliteFile` does.
    """
    if not contents.inputs or not contents.outputs:
        raise ValueError("has no inputs, or no outputs; the file is damaged")
    tensors = [contents.tensors[number] for number in contents.inputs]
    reader = FloatReader(contents=contents, batch=tensors[0].shape[0] if tensors[0].shape else 0)
    inputs = tuple(_input(reader, tensor) for tensor in tensors)
    for op in contents.operators:
        _take(reader, op)
    outputs = [_output(reader, contents.tensors[number]) for number in contents.outputs]
    if reader.rounded:
        names = list(dict.fromkeys(reader.rounded))
        log.warning(
            "%d weights, as %s, are stored in integers, and are trained and quantized from those as floats: "
            "the float network they were rounded from may do better",
            len(names),
            names[0],
        )
    return OnnxGraph(
        nodes=tuple(reader.nodes),
        constants=reader.constants,
        inputs=inputs,
        outputs=tuple(outputs),
        opset=OPSET,
        metadata={},
    )


def _input(reader: FloatReader, tensor: TfliteTensor) -> OnnxInput:
    value = reader.new(tensor.name or f"tensor{tensor.index}", reader.sample(tensor))
    if not value.shape:
        raise ValueError(f"{tensor} has shape {tensor.shape}: must be samples of one dimension or more")
    reader.values[tensor.index] = value
    dtype = {"float32": "float", "float64": "double"}.get(tensor.dtype, tensor.dtype)
    integers = dtype in ("int32", "int64")
    return OnnxInput(name=value.name, shape=(None, *value.shape), integers=integers, dtype=dtype)


def _output(reader: FloatReader, tensor: TfliteTensor) -> str:
    """The name of an output, whose elements lie in the file's order, images with channels first."""
    if tensor.index not in reader.values:
        raise ValueError(f"{tensor}, an output, is not computed")
    value = reader.in_file_order(reader.values[tensor.index])
    wanted = tensor.name or f"tensor{tensor.index}"
    if value.name == wanted or wanted in reader.names:
        return value.name
    return reader.emit("Identity", [value], reader.new(wanted, value.shape)).name


def _take(reader: FloatReader, op: TfliteOperator) -> None:
    with reader.contents.naming(op):
        if op.kind not in READERS:
            raise ValueError(f"is not read. Remedy: a network without it; {alternatives(op.kind, READERS)}")
        if not op.outputs:
            raise ValueError("computes nothing; the file is damaged")
        if not _is_constant(reader, op):
            READERS[op.kind](reader, op)


def _is_constant(reader: FloatReader, op: TfliteOperator) -> bool:
    """Compute weights that the file holds in another form beforehand: half floats, levels, other shapes."""
    tensors = [reader.contents.tensors[number] for number in op.inputs if number >= 0]
    if not tensors or not all(reader.is_constant(tensor) for tensor in tensors):
        return False
    y, x = reader.tensor(op, 0, output=True), reader.numbers(tensors[0])
    made: Array
    if op.kind in ("DEQUANTIZE", "CAST") and y.dtype in ("float32", "float16"):
        made = x.astype(np.float32)
    elif op.kind in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"):
        made = x.reshape(y.shape)
    elif op.kind == "TRANSPOSE":
        made = x.transpose(reader.constant(op, 1).ravel().tolist())
    else:
        raise ValueError("reads constants alone, and is not computed beforehand. Remedy: convert it again")
    if made.shape != y.shape:
        raise ValueError(f"gives {made.shape}, and {y} has {y.shape}; the file is damaged")
    reader.beforehand[y.index] = made
    return True
