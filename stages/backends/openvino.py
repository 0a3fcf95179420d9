"""OpenVINO's CPU plugin, by way of ONNX: a peer to compare with, from the same integer program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.backends.base import ONE_LEVEL, Executable, Tolerance
from stages.backends.foreign.executable import ForeignExecutable, Session, require
from stages.integer.program import Program


@dataclass(frozen=True, kw_only=True)
class OpenVino:
    """Rounds in float32 by products of scales, so that near-ties differ by one level; adds residuals exactly.

    Args:
        threads: of a compiled model; None leaves them to OpenVINO.
        precision: of what is not int8. OpenVINO's own choice is bfloat16 where the CPU has it, in which a
            residual's sum keeps 8 bits: one level in four differs after a few layers of ResNet-20.
    """

    name: ClassVar[str] = "openvino"
    exact: ClassVar[frozenset[str]] = frozenset()
    packages: ClassVar[tuple[str, ...]] = ("openvino", "onnx")
    export: ClassVar[str] = "onnx_qdq"

    threads: int | None = None
    precision: Literal["f32", "bf16"] = "f32"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads={self.threads}: must be at least 1, or null to leave it to OpenVINO")

    @property
    def tolerance(self) -> Tolerance:
        """A level an operator; in bfloat16 four, since 8 bits hold an operator's sum."""
        return ONE_LEVEL if self.precision == "f32" else Tolerance(off_by=4, min_agreement=0.9)

    def compile(self, program: Program) -> Executable:
        """Raises `PipelineError` where openvino or onnx is not installed, or OpenVINO computes wrongly."""
        require("onnx", self.name)
        require("openvino", self.name)
        if grouped := grouped_residuals(program):
            raise PipelineError(
                f"backend=openvino: {', '.join(map(repr, grouped))}: OpenVINO's sum of a "
                "grouped convolution and a residual is wrong. Remedy: backend=onednn or backend=onnxruntime"
            )
        from stages.exporters.onnx_graph.qdq import program_to_onnx

        def load(samples: int, trace: bool) -> Session:
            model = program_to_onnx(program, samples, residual="exact", trace=trace)
            return load_model(model.SerializeToString(), self.threads, self.precision)

        return ForeignExecutable(self.name, program, load, notes=())


def grouped_residuals(program: Program) -> list[str]:
    """The convolutions in groups that add a residual, which OpenVINO 2026 computes wrongly."""
    return [op.output for op in program.ops if len(op.inputs) == 2 and op.attrs.get("groups", 1) > 1]


def load_model(model: Any, threads: int | None, precision: str | None = None) -> Session:
    """A model as a function from its only input to its outputs, compiled for latency in one stream.

    Args:
        model: ONNX bytes, a path, or an ``openvino.Model``.
        threads: None leaves them to OpenVINO.
        precision: ``f32`` or ``bf16``; None leaves it to OpenVINO.
    """
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    settings |= {} if threads is None else {"INFERENCE_NUM_THREADS": threads}
    settings |= {} if precision is None else {"INFERENCE_PRECISION_HINT": precision}
    network = model if isinstance(model, openvino.Model) else core.read_model(model)
    request = core.compile_model(network, "CPU", settings).create_infer_request()

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        results = request.infer([x], share_inputs=True, share_outputs=False)
        return [results[i] for i in range(len(results))]

    return run


BACKEND = OpenVino
