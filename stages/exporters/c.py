"""Portable C99: the network without any dependency, for anything that has a compiler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.data.description import Description
from stages.exporters.c_code.model import OPERATORS, TFLM, example, program_to_c
from stages.exporters.exporter import named, no_form
from stages.integer.kernel import has_profile
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class PortableC:
    """Writes ``model.c`` and ``model.h``: ``void model_run(const int8_t *input, int8_t *output)``.

    The integers are the reference's, in the program's own arithmetic. Nothing is allocated: values between
    operators lie in one static block, laid out here by their lifetimes. ``main.c`` is an example that reads
    samples from standard input.
    """

    name: ClassVar[str] = "c"
    requires: ClassVar[tuple[str, ...]] = ()

    def refusals(self, program: Program) -> list[str]:
        """Operators that have no form in C, or none in the program's arithmetic."""
        own = [op for op in program.ops if has_profile(op, program)]
        most = {"softmax": 1, "add": 2}
        unknown = [
            f"{op.op} '{op.output}'"
            for op in own
            if op.op not in TFLM or len(op.inputs) > most.get(op.op, len(op.inputs))
        ]
        wide = [op.output for op in own if any(program.values[name].wide for name in (*op.inputs, op.output))]
        reasons = no_form(program, frozenset(OPERATORS), "C")
        if unknown:
            reasons.append(
                f"no form in C with TFLite's arithmetic for {named(unknown)}. "
                "Remedy: convert.arithmetic=fixed_point"
            )
        if wide:
            reasons.append(
                f"levels of more than 8 bits in TFLite's arithmetic ({named(wide)}). "
                "Remedy: convert.arithmetic=fixed_point"
            )
        return reasons

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the three files."""
        model = program_to_c(program, description)
        texts = {"model.c": model.source, "model.h": model.header, "main.c": example()}
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder / "model.c"


EXPORTER = PortableC
