"""ONNX for Qualcomm's HTP: the QNN execution provider of onnxruntime, and QAIRT's converter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.data.description import Description
from stages.exporters.exporter import check_installed
from stages.exporters.onnx_graph.files import save_model
from stages.exporters.onnx_graph.qnn_rules import qnn_refusals
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class QnnHtp:
    """Writes ``model.onnx``, in node units that HTP runs wholly; `stages.exporters.onnx_graph.qnn` says how.

    Args:
        batch: samples a call; HTP takes no open number.
    """

    name: ClassVar[str] = "qnn"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)

    batch: int = 1

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch}: must be at least 1: HTP takes no open number of samples")

    def refusals(self, program: Program) -> list[str]:
        """Operators and weights that HTP does not take."""
        check_installed(self)
        return qnn_refusals(program)

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the file."""
        from stages.exporters.onnx_graph.qnn import program_to_qnn

        return save_model(program_to_qnn(program, self.batch), description, folder)


EXPORTER = QnnHtp
