"""An integer program on one of the pipeline's backends, our own or a peer's runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.backends.base import Backend, predict
from stages.benchmarking.competitor import Case
from stages.integer.files import read_program
from stages.integer.interpreter import quantize_input
from stages.integer.program import Program
from stages.measuring.timing import Step

OURS = ("native", "onednn", "reference")
"""Backends that are the pipeline's own kernels."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Float in, float out, like its competitors.

    Args:
        backend: what runs the program; its threads are set to the case's.
        levels: leave out quantizing the input and dequantizing the output.
        program: the folder of a program that a run left, to run in the place of the case's, which it is
            compared with: a pruned network beside the dense one. None for the case's.
    """

    backend: Backend
    levels: bool = False
    program: str | None = None
    isolated: bool = False

    @property
    def peer(self) -> bool:
        """Whether the backend is somebody else's runtime."""
        return self.backend.name not in OURS

    @property
    def held(self) -> bool:
        """Whether `holding` can hold it."""
        return self.backend.name in (*OURS, "openvino")

    @property
    def compared(self) -> bool:
        """Whether it is the benchmark's network that it runs: a program of another run is its own."""
        return self.program is None

    def prepare(self, case: Case) -> Step:
        """Compile for the case's threads.

        Raises:
            RuntimeError: the backend is missing or falls back to another.
            ValueError: the program that was given cannot be read, or takes another input.
        """
        backend: Any = self.backend
        program = case.program if self.program is None else self._read(case)
        settings: dict[str, Any] = {"threads": case.threads}
        if case.isa is not None and hasattr(backend, "isa"):
            settings["isa"] = case.isa
        executable = replace(backend, **settings).compile(program)
        if executable.name != backend.name:
            raise RuntimeError("; ".join(executable.notes))
        x = case.x.numpy()
        if self.levels:
            q = quantize_input(program, x)
            return lambda: executable.run(q)
        return lambda: predict(executable, program, x)

    def _read(self, case: Case) -> Program:
        program, _ = read_program(Path(str(self.program)))
        own, wanted = (one.values[one.input].shape for one in (program, case.program))
        if own != wanted:
            raise ValueError(f"program={self.program}: takes {own}, the benchmark's network {wanted}")
        return program
