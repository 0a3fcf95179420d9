"""The runtimes that are asked, each by way of its backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

from stages.backends.base import Executable
from stages.backends.litert import LiteRt
from stages.backends.onnxruntime import OnnxRuntime
from stages.backends.openvino import OpenVino
from stages.backends.qnn import Qnn
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


RUNTIMES: Mapping[str, Runtime] = {
    "tflm": Runtime(package="tflite_micro", compile=Tflm().compile, form="tflm"),
    **{
        f"litert {kernels}": Runtime(
            package="ai-edge-litert", compile=LiteRt(threads=1, kernels=kernels).compile, form="tflm"
        )
        for kernels in ("reference", "optimized", "xnnpack")
    },
    "onnxruntime unoptimized": Runtime(
        package="onnxruntime", compile=OnnxRuntime(threads=1, optimization="disabled").compile
    ),
    "onnxruntime optimized": Runtime(package="onnxruntime", compile=OnnxRuntime(threads=1).compile),
    "onnxruntime qoperator": Runtime(
        package="onnxruntime", compile=OnnxRuntime(threads=1, form="qoperator").compile
    ),
    "openvino": Runtime(package="openvino", compile=OpenVino(threads=1).compile),
    "qnn": Runtime(package="onnxruntime-qnn", compile=Qnn().compile),
}
"""What is asked, by the name that is printed."""
