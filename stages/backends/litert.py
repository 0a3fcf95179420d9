"""LiteRT (TensorFlow Lite) on the CPU, by way of a .tflite file: a peer, from the same integer program."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from stages.backends.base import Executable, Tolerance, check_counts
from stages.backends.foreign.executable import require
from stages.backends.foreign.tflite_sessions import LiteRtKernels, load_litert
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class LiteRt:
    """Rounds by operator, kernels and version, as ``python -m pipeline.probe`` shows; a level or so apart.

    Args:
        threads: of a session; None leaves them to LiteRT.
        kernels: see `LiteRtKernels`; ``xnnpack`` is LiteRT's default.
        batch_size: most samples a call.
    """

    name: ClassVar[str] = "litert"
    exact: ClassVar[frozenset[str]] = frozenset()
    packages: ClassVar[tuple[str, ...]] = ("ai_edge_litert",)
    export: ClassVar[str] = "tflite"

    threads: int | None = None
    kernels: LiteRtKernels = "xnnpack"
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_counts(threads=self.threads, batch_size=self.batch_size)

    @property
    def tolerance(self) -> Tolerance:
        """Two levels an operator: its own rounding, and what TFLite's form adds (residuals, pools)."""
        return Tolerance(off_by=2, min_agreement=0.9)

    def compile(self, program: Program) -> Executable:
        """Raises `PipelineError` where LiteRT is not installed, or an operator has no form in TFLite."""
        for package in self.packages:
            require(package, self.name)
        from stages.backends.foreign.tflite import TfliteExecutable

        load = partial(load_litert, kernels=self.kernels, threads=self.threads)
        return TfliteExecutable(self.name, program, load, batch_size=self.batch_size)


BACKEND = LiteRt
