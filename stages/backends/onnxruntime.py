"""onnxruntime's CPU kernels, by way of ONNX: a peer to compare with, from the same integer program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from stages.backends.base import ONE_LEVEL, Executable, Tolerance
from stages.backends.foreign.executable import ForeignExecutable, Session, require
from stages.integer.program import Op, Program


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime:
    """Rounds in float32 by products of scales, so that near-ties differ by one level.

    Args:
        threads: of a session; None for one a core.
        residual: how a residual is added (`stages.exporters.onnx_graph.qdq`). ``requantized`` runs on int8
            kernels and rounds twice; ``exact`` rounds once, as the program, with such convolutions in float.
    """

    name: ClassVar[str] = "onnxruntime"
    exact: ClassVar[frozenset[str]] = frozenset()
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx")
    export: ClassVar[str] = "onnx_qdq"

    threads: int | None = None
    residual: Literal["requantized", "exact"] = "requantized"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads={self.threads}: must be at least 1, or null for one a core")

    @property
    def tolerance(self) -> Tolerance:
        """A level an operator; one more where a layer's result is rounded before its residual is added."""
        return ONE_LEVEL if self.residual == "exact" else replace(ONE_LEVEL, off_by=2)

    def compile(self, program: Program) -> Executable:
        """Raises `PipelineError` where onnxruntime or onnx is not installed."""
        require("onnx", self.name)
        require("onnxruntime", self.name)
        from stages.exporters.onnx_graph.qdq import program_to_onnx

        def load(samples: int, trace: bool) -> Session:
            model = program_to_onnx(program, samples, residual=self.residual, trace=trace)
            return load_session(model.SerializeToString(), self.threads)

        notes: tuple[str, ...] = ()
        if self.residual == "requantized" and any(_has_residual(op) for op in program.ops):
            notes += ("onnxruntime rounds a layer's result before adding its residual; the program does not",)
        return ForeignExecutable(self.name, program, load, notes)


def load_session(model: bytes | str, threads: int | None) -> Session:
    """An ONNX model, its bytes or its path, as a function from its only input to its outputs.

    Threads do not spin on after a run, where they would take the time of whatever runs next.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        outputs: list[NDArray[Any]] = session.run(None, {name: x})
        return outputs

    return run


def _has_residual(op: Op) -> bool:
    return op.op in ("conv2d", "linear") and len(op.inputs) == 2


BACKEND = OnnxRuntime
