"""TFLite: an int8 flatbuffer for LiteRT and, on microcontrollers, tflite-micro."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.data.description import Description
from stages.exporters.exporter import check_installed
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class Tflite:
    """Writes ``model.tflite``; `stages.exporters.tflite_file.model` says how.

    A program of ``convert.arithmetic=tflm`` is written as it is, and tflite-micro computes its integers. One
    in another arithmetic is brought into that form first, and its results differ by roundings.

    The file's metadata has an entry for each line of ``program/preprocessing.json``: shape, mean, std,
    classes, each JSON.

    Args:
        batch: samples a call; TFLite wants a number.
        float_io: whether input and output are float32, quantized and dequantized in the file; else int8.
        int4: whether weights that 4 bits hold are stored in half a byte. LiteRT reads them, tflite-micro's
            fully connected layers do not.
    """

    name: ClassVar[str] = "tflite"
    requires: ClassVar[tuple[str, ...]] = ("ai_edge_litert",)

    batch: int = 1
    float_io: bool = False
    int4: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch={self.batch}: must be at least 1")

    def refusals(self, program: Program) -> list[str]:
        """Operators that have no form in TFLite, or not with these scales and bounds."""
        check_installed(self)
        from stages.exporters.tflite_file.model import problems

        try:
            return problems(to_tflm(program))
        except ValueError as error:
            return [str(error)]

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the file."""
        from stages.exporters.tflite_file.model import program_to_tflite

        metadata = None if description is None else description.metadata()
        model = program_to_tflite(
            to_tflm(program), self.batch, metadata=metadata, float_io=self.float_io, int4=self.int4
        )
        (folder / "model.tflite").write_bytes(model.data)
        return folder / "model.tflite"


EXPORTER = Tflite
