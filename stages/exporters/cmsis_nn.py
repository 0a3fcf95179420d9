"""CMSIS-NN: the network as calls of Arm's kernels for Cortex-M."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.data.description import Description
from stages.exporters.cmsis_code.model import problems, program_to_cmsis
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class CmsisNN:
    """Writes ``model.c`` and ``model.h``: ``void model_run(const int8_t *input, int8_t *output)``.

    Images are (H, W, C), as CMSIS-NN has them, at input and output too. The integers are those of
    ``convert.arithmetic=tflm``; a program in another arithmetic is brought into that form first, and its
    results differ by roundings. Memory is one static block, laid out here, with the scratch memory that the
    kernels want on Cortex-M with MVE, with the DSP extension, and without either.
    """

    name: ClassVar[str] = "cmsis_nn"
    requires: ClassVar[tuple[str, ...]] = ()

    def refusals(self, program: Program) -> list[str]:
        """Operators for which CMSIS-NN has no call, or none with these scales, bounds or sizes."""
        try:
            return problems(to_tflm(program))
        except ValueError as error:
            return [str(error)]

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the two files."""
        model = program_to_cmsis(to_tflm(program), description)
        for name, text in {"model.c": model.source, "model.h": model.header}.items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder / "model.c"


EXPORTER = CmsisNN
