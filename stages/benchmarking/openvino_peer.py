"""OpenVINO with its own tools: float, and quantized by NNCF."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

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

    precision: Literal["f32", "bf16"] | None = "f32"
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Export and compile for the case's shape."""
        import openvino

        network = openvino.Core().read_model(float_onnx(case))
        network.reshape(list(case.x.shape))
        run, x = load_model(network, case.threads, self.precision), case.x.numpy()
        return lambda: run(x)


@dataclass(frozen=True, kw_only=True)
class OpenVinoNncf:
    """NNCF's post-training quantization with its defaults, from the same calibration batches."""

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export, quantize, and compile for the case's shape, with the precision OpenVINO chooses."""
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        network = openvino.Core().read_model(float_onnx(case))
        network.reshape([case.calibration.batch_size, *case.x.shape[1:]])
        samples = nncf.Dataset([x.numpy() for x in case.calibration])
        quantized = nncf.quantize(network, samples, subset_size=len(case.calibration.ids))
        quantized.reshape(list(case.x.shape))
        run, x = load_model(quantized, case.threads), case.x.numpy()
        return lambda: run(x)
