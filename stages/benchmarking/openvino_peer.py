"""OpenVINO with its own tools: float, and quantized by NNCF."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

from stages.backends.openvino import load_model
from stages.benchmarking.competitor import Case
from stages.benchmarking.onnx_file import float_onnx
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class OpenVinoFloat:
    """The float network, compiled for latency.

    Args:
        precision: ``f32``, or None for what OpenVINO chooses: bfloat16 where the CPU has it.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnx", "openvino")
    held: ClassVar[bool] = True

    precision: Literal["f32", "bf16"] | None = "f32"
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Export and compile for the case's shape. Raises where it would compute what `case.isa` cannot."""
        import openvino

        if self.precision != "f32" and case.isa is not None:
            raise RuntimeError(f"isa={case.isa} has no bfloat16")

        network = openvino.Core().read_model(float_onnx(case))
        network.reshape(list(case.x.shape))
        run, x = load_model(network, case.threads, self.precision), case.x.numpy()
        return lambda: run(x)


@dataclass(frozen=True, kw_only=True)
class OpenVinoNncf:
    """NNCF's post-training quantization with its defaults, from the same calibration batches."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "openvino", "nncf")
    held: ClassVar[bool] = True

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export, quantize, and compile for the case's shape, with the precision OpenVINO chooses."""
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        network = openvino.Core().read_model(float_onnx(case))
        network.reshape([-1, *case.x.shape[1:]])  # the last calibration batch may be smaller
        samples = nncf.Dataset([x.numpy() for x in case.calibration])
        quantized = nncf.quantize(network, samples, subset_size=len(case.calibration.ids))
        quantized.reshape(list(case.x.shape))
        # of a CPU with bfloat16 OpenVINO's choice stays that, emulated, when oneDNN is held to less
        precision = None if case.isa is None else "f32"
        run, x = load_model(quantized, case.threads, precision), case.x.numpy()
        return lambda: run(x)
