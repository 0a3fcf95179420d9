"""ONNX with float operators between QuantizeLinear and DequantizeLinear: onnxruntime and OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from stages.data.description import Description
from stages.exporters.exporter import check_installed, no_form
from stages.exporters.onnx_graph.files import check_batch, check_opset, no_wide_type, save_model
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class OnnxQdq:
    """Writes ``model.onnx``; `stages.exporters.onnx_graph.qdq` says how.

    The file's metadata says what ``program/preprocessing.json`` says: shape, mean, std, classes, each JSON.

    Args:
        batch: samples a call; None leaves the number open.
        residual: how a sum with a layer's second input is written.
        opset: of ONNX, 17 to 25. From 21 on weights of 4 bits and less are stored as INT4 and residual
            streams of 16 bits have a type; from 25 on weights of 2 bits are INT2. Measured: onnxruntime 1.32
            and OpenVINO 2026.4 give the integers of opset 17 at 21, but onnxruntime has no integer
            convolutions for INT4 and runs such layers in float; INT2 it takes with its optimizations off
            alone, and OpenVINO not at all.
    """

    name: ClassVar[str] = "onnx_qdq"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)

    batch: int | None = None
    residual: Literal["exact", "requantized"] = "requantized"
    opset: int = 21

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
        from stages.exporters.onnx_graph.qdq import program_to_onnx

        model = program_to_onnx(program, self.batch, residual=self.residual, opset=self.opset, narrow=True)
        return save_model(model, description, folder)


EXPORTER = OnnxQdq
