"""onnxruntime's CPU kernels, by way of ONNX: a peer to compare with, from the same integer program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.backends.base import ONE_LEVEL, Executable, Tolerance
from stages.backends.foreign.executable import ForeignExecutable, Session, require
from stages.exporters.levels import storage_offset
from stages.exporters.tensorrt import TensorRt
from stages.integer.program import Op, Program, Value

Optimization = Literal["disabled", "basic", "extended", "all"]

_LEVELS: Mapping[Optimization, str] = {
    "disabled": "DISABLE_ALL",
    "basic": "ENABLE_BASIC",
    "extended": "ENABLE_EXTENDED",
    "all": "ENABLE_ALL",
}


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime:
    """Rounds in float32 by products of scales, so that near-ties differ by one level.

    Args:
        threads: of a session; None for one a core.
        residual: how a residual is added (`stages.exporters.onnx_graph.qdq`). ``requantized`` runs on int8
            kernels and rounds twice; ``exact`` rounds once, as the program, with such convolutions in float.
            Of the form ``qdq`` alone.
        form: the file that is run: ``qdq`` as export=onnx_qdq writes it, but for weights, which stay int8;
            ``qoperator`` as export=onnx_qoperator; ``tensorrt`` as export=tensorrt.
        optimization: of the graph, before it is run. ``disabled`` runs each node as it is written, which for
            ``qdq`` and ``tensorrt`` is float arithmetic; from ``extended`` on onnxruntime has integer kernels
            in place of what lies between DequantizeLinear and QuantizeLinear, and other integers.
    """

    name: ClassVar[str] = "onnxruntime"
    exact: ClassVar[frozenset[str]] = frozenset()
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx")

    threads: int | None = None
    residual: Literal["requantized", "exact"] = "requantized"
    form: Literal["qdq", "qoperator", "tensorrt"] = "qdq"
    optimization: Optimization = "all"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads={self.threads}: must be at least 1, or null for one a core")

    @property
    def export(self) -> str:
        """The exporter of the file that is run, or of its like."""
        return "tensorrt" if self.form == "tensorrt" else f"onnx_{self.form}"

    @property
    def tolerance(self) -> Tolerance:
        """A level an operator; one more where a layer's result is rounded before its residual is added."""
        return replace(ONE_LEVEL, off_by=2) if self._rounds_twice else ONE_LEVEL

    def compile(self, program: Program) -> Executable:
        """Raises `PipelineError` where a package is missing, or the form has none for `program`."""
        require("onnx", self.name)
        require("onnxruntime", self.name)
        write, offset = self._writer(program)
        # TensorRT rounds no float weight; the other forms keep it from onnxruntime by themselves
        left_out = ("WeightBiasQuantization",) if self.form == "tensorrt" else ()

        def load(samples: int, trace: bool) -> Session:
            model = write(samples, trace).SerializeToString()
            return load_session(model, self.threads, self.optimization, left_out)

        notes: tuple[str, ...] = ()
        if self._rounds_twice and any(_has_residual(op) for op in program.ops):
            notes += ("onnxruntime rounds a layer's result before adding its residual; the program does not",)
        return ForeignExecutable(self.name, program, load, notes, offset)

    @property
    def _rounds_twice(self) -> bool:
        return self.form == "qoperator" or (self.form == "qdq" and self.residual == "requantized")

    def _writer(self, program: Program) -> tuple[Callable[[int, bool], Any], Callable[[Value], int]]:
        """What makes the model for a number of samples, with a trace or not, and the offset of its levels."""
        from stages.exporters.onnx_graph.qdq import program_to_onnx
        from stages.exporters.onnx_graph.qoperator import program_to_qoperator
        from stages.exporters.onnx_graph.tensorrt import program_to_tensorrt, tensorrt_offset

        if self.form == "tensorrt":
            if refused := TensorRt().refusals(program):
                reasons = "\n  ".join(refused)
                raise PipelineError(f"backend=onnxruntime, form=tensorrt: {reasons}")
            return lambda n, trace: program_to_tensorrt(program, n, trace=trace), tensorrt_offset
        if self.form == "qoperator":
            return lambda n, trace: program_to_qoperator(program, n, trace=trace), storage_offset
        return (
            lambda n, trace: program_to_onnx(program, n, residual=self.residual, trace=trace),
            storage_offset,
        )


def load_session(
    model: bytes | str,
    threads: int | None,
    optimization: Optimization = "all",
    left_out: tuple[str, ...] = (),
) -> Session:
    """An ONNX model, its bytes or its path, as a function from its only input to its outputs.

    `left_out` names optimizers that do not run. Threads do not spin on after a run, where they would take the
    time of whatever runs next.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_{_LEVELS[optimization]}"
    )
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(left_out)
    )
    (name,) = (node.name for node in session.get_inputs())

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        outputs: list[NDArray[Any]] = session.run(None, {name: x})
        return outputs

    return run


def _has_residual(op: Op) -> bool:
    return op.op in ("conv2d", "linear") and len(op.inputs) == 2


BACKEND = OnnxRuntime
