"""onnxruntime with its own tools: float, quantized statically, and what its calibrators cost.

``quantize_static`` with unsigned 8-bit activations and signed weights per channel: of its settings the one
that runs every convolution of ResNet-20 on int8 kernels on x86. (Its default, signed activations, leaves
those in float whose input has two readers.)
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from stages.backends.onnxruntime import load_session
from stages.benchmarking.competitor import Batches, Case
from stages.benchmarking.onnx_file import float_onnx
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class OnnxRuntimeFloat:
    """The float network in a session with all graph optimizations."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Export and load."""
        return _session(float_onnx(case), case)


@dataclass(frozen=True, kw_only=True)
class OnnxRuntimeStatic:
    """``quantize_static`` of the float network, from the same calibration batches.

    Args:
        method: its calibrator.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    method: Literal["MinMax", "Entropy", "Percentile"] = "MinMax"
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Export, quantize and load."""
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        quantized = case.scratch / f"static_{self.method}_{len(case.x)}.onnx"
        with contextlib.redirect_stdout(io.StringIO()), _errors_only():  # it prints as it goes
            quantize_static(
                _preprocessed(case),
                quantized,
                _reader(case.calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[self.method],
            )
        return _session(quantized, case)


@dataclass(frozen=True, kw_only=True)
class OnnxRuntimeDynamic:
    """``quantize_dynamic`` of the float network: matrix products with ranges of the batch at hand.

    It is what onnxruntime advises for transformers; convolutions stay float, since its kernel for such
    integers (ConvInteger) is slower than float.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Export, quantize and load."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantized = case.scratch / f"dynamic_{len(case.x)}.onnx"
        with _errors_only():
            quantize_dynamic(
                _preprocessed(case),
                quantized,
                op_types_to_quantize=["MatMul", "Gemm", "Attention"],
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        return _session(quantized, case)


@dataclass(frozen=True, kw_only=True)
class OnnxRuntimeCalibrating:
    """Its calibrator alone, over the calibration batches: observation and ranges, nothing written.

    Args:
        method: the calibrator; None for the float session's forward pass, with which it compares.
    """

    method: Literal["MinMax", "Entropy", "Percentile"] | None = "MinMax"
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Export, and let onnxruntime add its outputs."""
        model = _preprocessed(case)
        if self.method is None:
            run = load_session(str(model), case.threads)
            return lambda: [run(x.numpy()) for x in case.calibration]
        import onnxruntime
        from onnxruntime.quantization import CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        def step() -> Any:
            calibrator = create_calibrator(
                model,
                augmented_model_path=str(case.scratch / f"augmented_{self.method}.onnx"),
                calibrate_method=CalibrationMethod[self.method],
            )
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = case.threads
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            calibrator.infer_session = onnxruntime.InferenceSession(
                calibrator.augmented_model_path, options, providers=["CPUExecutionProvider"]
            )
            with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
                calibrator.collect_data(_reader(case.calibration))
                return calibrator.compute_data()

        return step


def entropy_threshold(histogram: Any, levels: int = 128) -> float:
    """Its search for the threshold with the least KL divergence, on (counts, edges, min, max)."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector = HistogramCollector("entropy", True, len(histogram[0]), levels, 99.999, scenario="same")
    _, high, *_ = collector.get_entropy_threshold(histogram, levels)
    return float(np.asarray(high))


def _preprocessed(case: Case) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = case.scratch / f"preprocessed_{len(case.x)}.onnx"
    if not path.exists():
        with _errors_only():
            quant_pre_process(str(float_onnx(case)), str(path), skip_symbolic_shape=True)
    return path


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """Keep the root logger, which its tools write to, from warnings about each layer."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        root.setLevel(level)


def _session(model: Path, case: Case) -> Step:
    run, x = load_session(str(model), case.threads), case.x.numpy()
    return lambda: run(x)


def _reader(calibration: Batches) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc] # its base class is its interface
        """Batches one by one, as its tools ask for them."""

        def __init__(self) -> None:
            self._batches: Iterator[Any] = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            x = next(self._batches, None)
            return None if x is None else {"input": x.numpy()}

    return Reader()
