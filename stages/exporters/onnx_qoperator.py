"""ONNX with operators over levels (QOperator): onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.data.description import Description
from stages.exporters.exporter import check_installed, no_form
from stages.exporters.onnx_graph.files import check_batch, check_opset, no_wide_type, save_model
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class OnnxQOperator:
    """Writes ``model.onnx``; `stages.exporters.onnx_graph.qoperator` says how, and which operator is whose.

    The file's metadata says what ``program/preprocessing.json`` says, as that of `onnx_qdq`.

    Args:
        batch: samples a call; None leaves the number open.
        opset: of ONNX, 17 to 25. Weights stay int8, which is what these operators take; from 21 on those of 4
            bits with a scale a group of channels, which have no such operator, are INT4.
        contrib: use onnxruntime's own operators (com.microsoft: QGemm, QLinearAdd, QLinearAveragePool, …).
            False keeps to ONNX's, and writes the rest in float between levels.
    """

    name: ClassVar[str] = "onnx_qoperator"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)

    batch: int | None = None
    opset: int = 21
    contrib: bool = True

    def __post_init__(self) -> None:
        check_batch(self.batch)
        check_opset(self.opset)

    def refusals(self, program: Program) -> list[str]:
        """Operators that have no form in ONNX."""
        check_installed(self)
        from stages.exporters.onnx_graph.operators import OPERATORS

        return no_form(program, frozenset(OPERATORS), "ONNX") + no_wide_type(program, self.name, self.opset)

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the file."""
        from stages.exporters.onnx_graph.qoperator import program_to_qoperator

        model = program_to_qoperator(program, self.batch, contrib=self.contrib, opset=self.opset, narrow=True)
        return save_model(model, description, folder)


EXPORTER = OnnxQOperator
