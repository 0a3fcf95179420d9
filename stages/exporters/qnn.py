"""Files for Qualcomm's HTP: for onnxruntime's QNN provider, and for AIMET and QAIRT's converter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from stages.data.description import Description
from stages.exporters.exporter import check_installed
from stages.exporters.onnx_graph.files import save_model
from stages.exporters.onnx_graph.qnn_rules import qnn_refusals
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class QnnHtp:
    """Writes ``model.onnx``, in node units that HTP runs wholly; `stages.exporters.onnx_graph.qnn` says how.

    Beside it ``model_float.onnx``, the same graph in float, and ``encodings.json``, which says how each of
    its tensors is quantized: `stages.exporters.onnx_graph.encodings`.

    Args:
        batch: samples a call; HTP takes no open number.
        encodings: version of their schema.
    """

    name: ClassVar[str] = "qnn"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)

    batch: int = 1
    encodings: Literal["2.0.0", "1.0.0"] = "2.0.0"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch}: must be at least 1: HTP takes no open number of samples")

    def refusals(self, program: Program) -> list[str]:
        """Operators and weights that HTP does not take."""
        check_installed(self)
        return qnn_refusals(program)

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the three files."""
        import onnx

        from stages.exporters.onnx_graph.encodings import encodings_document, take_apart
        from stages.exporters.onnx_graph.qnn import program_to_qnn

        model = program_to_qnn(program, self.batch)
        apart, encodings = take_apart(program_to_qnn(program, self.batch, units=False))
        if description is not None:
            onnx.helper.set_model_props(apart, description.metadata())
        onnx.save(apart, folder / "model_float.onnx")
        document = encodings_document(encodings, self.encodings)
        (folder / "encodings.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return save_model(model, description, folder)


EXPORTER = QnnHtp
