"""Qualcomm's HTP in the simulator that onnxruntime-qnn brings: what a Hexagon NPU makes of the program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.backends.base import ONE_LEVEL, Executable, Tolerance
from stages.backends.foreign.executable import ForeignExecutable, Session
from stages.backends.qnn_htp.session import check_machine, in_batches, load_htp_session
from stages.exporters.onnx_graph.qnn_rules import qnn_offset, qnn_refusals
from stages.integer.program import Program, Value


@dataclass(frozen=True, kw_only=True)
class Qnn:
    """Runs a program wholly on the simulator, or not at all: nothing falls back to the CPU's kernels.

    Args:
        htp_arch: generation of the NPU. Two kinds of arithmetic were seen in onnxruntime-qnn 2.7.0: 68 and 69
            round alike, and so do all from 73 on.
        batch_size: samples that the graph is prepared for; HTP takes no open number.
    """

    name: ClassVar[str] = "qnn"
    exact: ClassVar[frozenset[str]] = frozenset()
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime_qnn", "onnxruntime", "onnx")
    export: ClassVar[str] = "qnn"
    extra: ClassVar[str] = "qnn"

    htp_arch: Literal["68", "69", "73", "75", "79", "81"] = "73"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: must be at least 1")

    @property
    def tolerance(self) -> Tolerance:
        """As onnxruntime's: sums are exact, their rounding is HTP's, and a residual's is one more.

        Measured: of ResNet-20's convolutions 0.9% of levels are off by one, of those with a residual 33% by
        up to two. HTP's softmax computes in 256ths: levels finer than that may lie further off.
        """
        return replace(ONE_LEVEL, off_by=2)

    def check_machine(self) -> None:
        """Raise `PipelineError` where the simulator cannot run."""
        check_machine()

    def compile(self, program: Program) -> Executable:
        """A graph is prepared when samples come.

        Raises:
            PipelineError: the simulator cannot run on this machine, or HTP does not take the program.
        """
        check_machine()
        if refused := qnn_refusals(program):
            raise PipelineError("\n  ".join(f"backend={self.name}: {reason}" for reason in refused))
        from stages.exporters.onnx_graph.qnn import program_to_qnn

        prepared: dict[tuple[int, bool], Session] = {}

        def load(samples: int, trace: bool) -> Session:
            batch = max(1, min(samples, self.batch_size))
            if (batch, trace) not in prepared:
                model = program_to_qnn(program, batch, trace=trace)
                session = in_batches(load_htp_session(model, self.htp_arch), batch)
                prepared[batch, trace] = _levels(session, program) if trace else session
            return prepared[batch, trace]

        notes = ("backend qnn: the HTP simulator; its time says nothing about an NPU's",)
        return ForeignExecutable(self.name, program, load, notes, offset=qnn_offset)


def _levels(session: Session, program: Program) -> Session:
    """A session that shows the reals of values as one that shows their stored levels."""

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        y, *shown = session(x)
        return [y, *(_stored(*pair) for pair in zip(shown, program.values.values(), strict=True))]

    return run


def _stored(shown: NDArray[Any], value: Value) -> NDArray[Any]:
    if value.wide:
        return shown
    levels: NDArray[Any] = np.rint(shown / np.float32(value.scale)).astype(np.int32)
    return levels + (value.zero_point + qnn_offset(value))


BACKEND = Qnn
