"""The runtimes that are asked, each by way of its backend or a session of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from stages.backends.base import Executable, load_backend
from stages.backends.foreign.executable import ForeignExecutable, Session
from stages.backends.litert import LiteRt
from stages.backends.onnxruntime import Optimization, load_session
from stages.backends.openvino import OpenVino
from stages.backends.tflm import Tflm
from stages.integer.program import Program, Requantize


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A runtime that may be installed.

    Args:
        package: the distribution that holds it.
        compile: makes a program run on it; raises `PipelineError`, ValueError or ImportError where it cannot.
        form: the arithmetic that programs are handed over in, so that no one adapts them.
    """

    package: str
    compile: Callable[[Program], Executable]
    form: Requantize = "float"

    def installed(self) -> str | None:
        """The version; None where the package is missing."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def executable(self, program: Program) -> Executable:
        """`program` on this runtime."""
        return self.compile(replace(program, requantize=self.form))


def _onnxruntime(optimization: Optimization) -> Callable[[Program], Executable]:
    def compile_(program: Program) -> Executable:
        from stages.exporters.onnx_graph.qdq import program_to_onnx

        def load(samples: int, trace: bool) -> Session:
            model = program_to_onnx(program, samples, trace=trace).SerializeToString()
            return load_session(model, 1, optimization)

        return ForeignExecutable("onnxruntime", program, load, ())

    return compile_


RUNTIMES: Mapping[str, Runtime] = {
    "tflm": Runtime(package="tflite_micro", compile=Tflm().compile, form="tflm"),
    **{
        f"litert {kernels}": Runtime(
            package="ai-edge-litert", compile=LiteRt(threads=1, kernels=kernels).compile, form="tflm"
        )
        for kernels in ("reference", "optimized", "xnnpack")
    },
    "onnxruntime unoptimized": Runtime(package="onnxruntime", compile=_onnxruntime("disabled")),
    "onnxruntime optimized": Runtime(package="onnxruntime", compile=_onnxruntime("all")),
    "openvino": Runtime(package="openvino", compile=OpenVino(threads=1).compile),
    "qnn": Runtime(package="onnxruntime-qnn", compile=lambda program: load_backend("qnn").compile(program)),
}
"""What is asked, by the name that is printed."""
