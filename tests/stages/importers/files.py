"""ONNX files for tests: written by torch, by onnxruntime's quantizer, or node by node."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn


def exported(
    module: nn.Module, x: torch.Tensor, path: Path, *, batch: int | None = None, opset: int = 17
) -> Path:
    """What torch's exporter writes of a module, for any number of samples, or for `batch`."""
    open_batch: dict[str, Any] = {} if batch else {"dynamic_axes": {"x": {0: "n"}}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (x[: batch or 1],),
            str(path),
            dynamo=False,
            verbose=False,
            input_names=["x"],
            opset_version=opset,
            **open_batch,
        )
    return path


class Batches(CalibrationDataReader):
    """Noise for onnxruntime's calibration."""

    def __init__(self, shape: Sequence[int]) -> None:
        rng = np.random.default_rng(0)
        self._left = [{"x": rng.standard_normal((8, *shape)).astype(np.float32)} for _ in range(2)]

    def get_next(self) -> Any:
        return self._left.pop() if self._left else None


def quantized(
    path: Path, shape: Sequence[int], form: str = "QDQ", *, signed: bool = False, per_channel: bool = False
) -> Path:
    """What onnxruntime's static quantizer makes of a file."""
    target = path.with_name(f"{path.stem}-{form}-{signed}-{per_channel}.onnx")
    logging.disable(logging.WARNING)
    quantize_static(
        path,
        target,
        Batches(shape),
        quant_format=QuantFormat[form],
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    logging.disable(logging.NOTSET)
    return target


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    constants: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    output: str = "y",
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A graph from ``x`` to ``y``."""
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        tensors,
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    )
    made.ir_version = 8
    return made


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    """The file of a model."""
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def by_onnxruntime(path: Path, x: np.ndarray) -> np.ndarray:
    """The file's first output, node by node as it stands: fused kernels round otherwise (QLinearSoftmax)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result
