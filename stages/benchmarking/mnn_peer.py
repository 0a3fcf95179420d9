"""MNN: the float network as its converter makes it of ONNX, and quantized by its own tool.

The package's command-line tools (``mnnconvert``, ``mnnquant``) install another package of their own accord
and report each use to a server; their module ``_tools`` does the same work and neither of that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stages.benchmarking.competitor import Case
from stages.benchmarking.onnx_file import float_onnx
from stages.measuring.timing import Step

PACKAGES = ("onnx", "MNN")


@dataclass(frozen=True, kw_only=True)
class MnnFloat:
    """The float network in float32."""

    packages: ClassVar[tuple[str, ...]] = PACKAGES
    extra: ClassVar[str] = "peers"

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export, convert and load. Raises RuntimeError where its converter refuses the network."""
        return _step(_converted(case), case)


@dataclass(frozen=True, kw_only=True)
class MnnInt8:
    """Its offline quantization with the calibration samples one by one, per channel, with int8 activations.

    Args:
        method: of a range of activations, ``KL``, ``EMA`` or ``ADMM``.
    """

    packages: ClassVar[tuple[str, ...]] = PACKAGES
    extra: ClassVar[str] = "peers"

    method: str = "KL"
    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export, convert, quantize and load. Raises RuntimeError where its tools refuse the network."""
        import _tools

        converted = _converted(case)
        folder = case.scratch / f"mnn_calibration_{len(case.x)}"
        quantized, settings = folder.with_suffix(".mnn"), folder.with_suffix(".json")
        document = {
            "path": f"{folder}/",
            "used_sample_num": _write_samples(folder, case),
            "input_type": "sequence",  # text files, a folder a sample; else they would be images
            "batch_size": 1,
            "feature_quantize_method": self.method,
            "weight_quantize_method": "MAX_ABS",
            "feature_clamp_value": 127,
            "weight_clamp_value": 127,
            "quant_bits": 8,
        }
        settings.write_text(json.dumps(document))
        _tools.mnnquant(["mnnquant", str(converted), str(quantized), str(settings)])
        if not quantized.exists():
            raise RuntimeError("MNN's quantization wrote no file")
        return _step(quantized, case)


def _converted(case: Case) -> Path:
    import _tools

    path = case.scratch / f"float_{len(case.x)}.mnn"
    if not path.exists():
        source = str(float_onnx(case))
        arguments = ["-f", "ONNX", "--modelFile", source, "--MNNModel", str(path), "--bizCode", "benchmark"]
        _tools.mnnconvert(["mnnconvert", *arguments])
    if not path.exists():
        raise RuntimeError("MNN's converter wrote no file: it does not take the network")
    return path


def _write_samples(folder: Path, case: Case) -> int:
    """A folder a sample, its input as text; returns how many."""
    count = 0
    for batch in case.calibration:
        for x in batch.numpy():
            sample = folder / f"{count:05}"
            sample.mkdir(parents=True, exist_ok=True)
            inputs = [{"name": "input", "shape": [1, *x.shape]}]
            (sample / "input.json").write_text(json.dumps({"inputs": inputs, "outputs": ["output"]}))
            np.savetxt(sample / "input.txt", x.ravel(), fmt="%.6g")
            count += 1
    return count


def _step(path: Path, case: Case) -> Step:
    import MNN
    from MNN import expr

    settings = {"backend": "CPU", "numThread": case.threads, "precision": "high"}
    runtime = MNN.nn.create_runtime_manager((settings,))
    network: Any = MNN.nn.load_module_from_file(str(path), ["input"], ["output"], runtime_manager=runtime)
    x = case.x.numpy()
    layout = expr.NCHW  # ONNX's, whatever the rank

    def step() -> Any:
        value = expr.placeholder(list(x.shape), layout)
        value.write(x)
        (y,) = network.forward([value])
        return np.array(expr.convert(y, layout).read())

    return step
