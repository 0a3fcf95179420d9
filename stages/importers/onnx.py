"""ONNX files: float graphs as networks to quantize, QDQ and QOperator graphs as integer programs."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from stages.importers.onnx_file.network import OnnxNetwork
from stages.importers.onnx_file.quantized import program_of
from stages.importers.onnx_file.reading import MISFITS, OnnxGraph, OnnxInput, files_of, read_graph
from stages.integer.program import Program

QUANTIZES = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def read_onnx(path: Path) -> Program:
    """The program of a quantized graph, in the arithmetic in which onnxruntime rounds: `float`.

    Raises:
        ValueError: a damaged file, a float graph, or operators without a form in integers; names the file.
    """
    graph = read_graph(path)
    if not holds_integers(graph):
        raise ValueError(
            f"{path}: holds a float network, and no integer program. "
            "Remedy: model=onnx model.path=… quantizes it"
        )
    try:
        return program_of(graph)
    except MISFITS as error:
        raise ValueError(f"{path}: {error}") from error


def holds_integers(graph: OnnxGraph) -> bool:
    """Whether a graph computes on integers: it quantizes more than constants."""
    return any(
        (node.op in QUANTIZES and node.inputs[0] not in graph.constants)
        or "QLinear" in node.op
        or ".QGemm" in node.op
        for node in graph.nodes
    )


class OnnxFile:
    """A file, read once.

    Args:
        path: of the file.

    Raises:
        ValueError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._graph = read_graph(path)

    @property
    def files(self) -> list[Path]:
        """The file, and those of its tensors."""
        return files_of(self.path)

    @property
    def inputs(self) -> tuple[OnnxInput, ...]:
        """The inputs of the graph."""
        return self._graph.inputs

    @property
    def quantized(self) -> bool:
        """Whether it holds a program."""
        return holds_integers(self._graph)

    def network(self) -> nn.Module:
        """The float network, each of whose inputs has its name in the file.

        Raises:
            ValueError: an operator that is not known; names it.
        """
        return OnnxNetwork(self._graph)
