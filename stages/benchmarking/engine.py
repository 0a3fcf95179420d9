"""An integer program on one of the pipeline's backends, our own or a peer's runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from stages.backends.base import Backend, predict
from stages.benchmarking.competitor import Case
from stages.integer.interpreter import quantize_input
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Float in, float out, like its competitors.

    Args:
        backend: what runs the program; its threads are set to the case's.
        levels: leave out quantizing the input and dequantizing the output.
    """

    backend: Backend
    levels: bool = False
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Compile for the case's threads. Raises where the backend is missing or falls back to another."""
        backend: Any = self.backend
        executable = replace(backend, threads=case.threads).compile(case.program)
        if executable.name != backend.name:
            raise RuntimeError("; ".join(executable.notes))
        x = case.x.numpy()
        if self.levels:
            q = quantize_input(case.program, x)
            return lambda: executable.run(q)
        return lambda: predict(executable, case.program, x)
