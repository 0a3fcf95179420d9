"""ONNX with float operators between QuantizeLinear and DequantizeLinear: onnxruntime and OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from stages.data.description import Description
from stages.exporters.exporter import check_installed, no_form
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class OnnxQdq:
    """Writes ``model.onnx``; `stages.exporters.onnx_graph.qdq` says how.

    The file's metadata says what ``program/preprocessing.json`` says: shape, mean, std, classes, each JSON.

    Args:
        batch: samples a call; None leaves the number open.
        residual: how a sum with a layer's second input is written.
    """

    name: ClassVar[str] = "onnx_qdq"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)

    batch: int | None = None
    residual: Literal["exact", "requantized"] = "requantized"

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch={self.batch}: must be at least 1, or null to leave it open")

    def refusals(self, program: Program) -> list[str]:
        """Operators that have no form in ONNX."""
        check_installed(self)
        from stages.exporters.onnx_graph.operators import OPERATORS

        return no_form(program, frozenset(OPERATORS), "ONNX")

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the file."""
        import onnx

        from stages.exporters.onnx_graph.qdq import program_to_onnx

        model = program_to_onnx(program, self.batch, residual=self.residual)
        if description is not None:
            onnx.helper.set_model_props(model, description.metadata())
        onnx.save(model, folder / "model.onnx")
        return folder / "model.onnx"


EXPORTER = OnnxQdq
