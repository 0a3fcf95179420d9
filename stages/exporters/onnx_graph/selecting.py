"""Constant indices, separable weights and embeddings as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from stages.exporters.onnx_graph.writer import Writer
from stages.integer.program import Op


def _take(writer: Writer, op: Op) -> None:
    indices = writer.constant(f"{op.output}/indices", np.array(op.attrs["indices"], np.int64))
    writer.move(op, "Gather", indices, axis=op.attrs["axis"] + 1)


def _resample(writer: Writer, op: Op) -> None:
    """Products by the weights; what the ratio holds beside the scales is a factor of those of rows."""
    x, y = writer.program.values[op.inputs[0]], writer.program.values[op.output]
    factor = float(op.tensors["ratio"][0]) * y.scale / x.scale
    rows = writer.constant(f"{op.output}/rows", (op.tensors["rows"] * factor).astype(np.float32))
    columns = writer.constant(f"{op.output}/columns", op.tensors["columns"].T.astype(np.float32))
    half = writer.node("MatMul", [writer.reals(x.name), columns], f"{op.output}/columns_done")
    writer.finish(op, writer.node("MatMul", [rows, half], f"{op.output}/resampled"))


def _embedding(writer: Writer, op: Op) -> None:
    y = writer.program.values[op.output]
    table = writer.constant(f"{op.output}/table", writer.stored(y, op.tensors["table"]))
    index = writer.index(writer.program.values[op.inputs[0]], f"{op.output}/index", TensorProto.INT64)
    writer.selected(op, "Gather", [table, index])


SELECTING: Mapping[str, Callable[[Writer, Op], None]] = {
    "take": _take,
    "resample": _resample,
    "embedding": _embedding,
}
