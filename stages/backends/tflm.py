"""tflite-micro, the runtime of microcontrollers, on this machine, by way of a .tflite file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backends.base import Executable, Tolerance
from stages.backends.foreign.executable import require
from stages.backends.foreign.tflite_sessions import load_tflm
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class Tflm:
    """Computes the integers of the arithmetic profile ``tflm``.

    A sample goes through at a time, by kernels that are written to be read: seconds for a large network.
    """

    name: ClassVar[str] = "tflm"
    exact: ClassVar[frozenset[str]] = frozenset({"tflm"})
    packages: ClassVar[tuple[str, ...]] = ("tflite_micro", "ai_edge_litert")
    export: ClassVar[str] = "tflite"

    @property
    def tolerance(self) -> Tolerance:
        """Two levels an operator: its own rounding, and what TFLite's form adds (residuals, pools)."""
        return Tolerance(off_by=2, min_agreement=0.9)

    def compile(self, program: Program) -> Executable:
        """Raises `PipelineError` where tflite-micro is missing, or an operator has no form in TFLite."""
        for package in self.packages:
            require(package, self.name)
        from stages.backends.foreign.tflite import TfliteExecutable

        return TfliteExecutable(self.name, program, load_tflm, batch_size=1)


BACKEND = Tflm
