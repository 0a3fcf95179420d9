"""The artifacts of the pipeline: what stages hand on, and what the store keeps.

All files are JSON and safetensors; nothing is pickled. `IntegerProgram` is also the deployed thing:

    from stages.artifacts import IntegerProgram
    program = IntegerProgram.load(path)
    logits = program.run(x, backend="onednn")      # float (N, C, H, W) in, float logits out
    q = program.run_integers(q, backend="reference")  # levels in, levels out
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from pipeline.artifact import ServedModel
from stages.backends.base import Executable, load_backend
from stages.graph.ir import Graph
from stages.graph.quantized import QuantizedGraph
from stages.graph.serialize import load_graph, save_graph
from stages.integer.format import load_program, save_program
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.integer.packing import stored_bytes
from stages.integer.program import Integers, Program
from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class FloatModel:
    """The trained network as captured, BatchNorm not folded."""

    kind: ClassVar[str] = "float_model"
    graph: Graph

    def save(self, directory: Path) -> None:
        """Write graph.json and params.safetensors."""
        save_graph(self.graph, directory)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        return cls(graph=load_graph(directory))

    def metrics(self) -> dict[str, float]:
        """``model/float_bytes``: the parameters at 4 bytes each."""
        count = sum(p.numel() for p in self.graph.params.values() if p.is_floating_point())
        return {"model/parameters": float(count), "model/float_bytes": 4.0 * count}


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the float network gives for the test samples; all runs on them compare with it.

    Args:
        logits: float32 (N, classes).
        labels: int64 (N,).
        sample_ids: int64 (N,), indices into the test split, ascending.
        values: ``float/images_per_second``, ``model/float_bytes``, ``model/parameters``.
    """

    kind: ClassVar[str] = "baseline"
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    sample_ids: NDArray[np.int64]
    values: Mapping[str, float]

    def save(self, directory: Path) -> None:
        """Write ``baseline.safetensors`` and ``values.json``."""
        arrays = {"logits": self.logits, "labels": self.labels, "sample_ids": self.sample_ids}
        save_arrays(arrays, directory / "baseline.safetensors")
        (directory / "values.json").write_text(json.dumps(dict(self.values)))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        values = json.loads((directory / "values.json").read_text())
        return cls(values=values, **load_arrays(directory / "baseline.safetensors"))

    def metrics(self) -> dict[str, float]:
        """``float/top1``, and the values."""
        return {**self.values, "float/top1": float((self.logits.argmax(axis=1) == self.labels).mean())}


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What calibration samples did in the folded, fused network: all that any calibrator needs.

    Args:
        graph: the folded, fused network that was observed.
        statistics: by quantization point.
        sample_ids: indices into the training split, ascending.
    """

    kind: ClassVar[str] = "observations"
    graph: Graph
    statistics: Mapping[str, Statistics]
    sample_ids: tuple[int, ...]

    def save(self, directory: Path) -> None:
        """Write the graph, ``statistics.safetensors`` and ``samples.json``."""
        save_graph(self.graph, directory)
        tensors = {
            f"{name}|{key}": tensor
            for name, statistics in self.statistics.items()
            for key, tensor in statistics.to_tensors().items()
        }
        save_file(tensors, directory / "statistics.safetensors")
        document = {"points": list(self.statistics), "ids": list(self.sample_ids)}
        (directory / "samples.json").write_text(json.dumps(document))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(directory / "statistics.safetensors")
        document = json.loads((directory / "samples.json").read_text())
        grouped: dict[str, dict[str, torch.Tensor]] = {name: {} for name in document["points"]}
        for key, tensor in tensors.items():
            name, _, part = key.rpartition("|")
            grouped[name][part] = tensor
        return cls(
            graph=load_graph(directory),
            statistics={name: Statistics.from_tensors(parts) for name, parts in grouped.items()},
            sample_ids=tuple(document["ids"]),
        )

    def metrics(self) -> dict[str, float]:
        """``calibration/samples``."""
        return {"calibration/samples": float(len(self.sample_ids))}


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """The network with the scales and zero points chosen for it; simulated and lowered from here."""

    kind: ClassVar[str] = "quantized_model"
    quantized: QuantizedGraph

    def save(self, directory: Path) -> None:
        """Write the graph, ``qparams.json`` and ``qparams.safetensors``."""
        save_graph(self.quantized.graph, directory)
        tensors: dict[str, torch.Tensor] = {}
        document: dict[str, dict[str, Any]] = {"activations": {}, "weights": {}}
        for group, chosen in document.items():
            for name, qparams in getattr(self.quantized, group).items():
                tensors[f"{group}|{name}|scale"] = qparams.scale
                tensors[f"{group}|{name}|zero_point"] = qparams.zero_point
                chosen[name] = {k: getattr(qparams, k) for k in ("quant_min", "quant_max", "ch_axis")}
        for group in ("levels", "biases"):
            chosen_tensors: Mapping[str, torch.Tensor] = getattr(self.quantized, group)
            tensors |= {f"{group}|{name}": t.contiguous() for name, t in chosen_tensors.items()}
        save_file(tensors, directory / "qparams.safetensors")
        (directory / "qparams.json").write_text(json.dumps(document))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(directory / "qparams.safetensors")
        document = json.loads((directory / "qparams.json").read_text())

        def group(kind: str) -> dict[str, QParams]:
            return {
                name: QParams(
                    scale=tensors[f"{kind}|{name}|scale"],
                    zero_point=tensors[f"{kind}|{name}|zero_point"],
                    **levels,
                )
                for name, levels in document[kind].items()
            }

        def beside(kind: str) -> dict[str, torch.Tensor]:
            prefix = f"{kind}|"
            return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}

        return cls(
            quantized=QuantizedGraph(
                graph=load_graph(directory),
                activations=group("activations"),
                weights=group("weights"),
                levels=beside("levels"),
                biases=beside("biases"),
            )
        )


@dataclass(frozen=True, kw_only=True)
class IntegerProgram:
    """The network as integers only, and the ways to run it."""

    kind: ClassVar[str] = "integer_program"
    program: Program

    def save(self, directory: Path) -> None:
        """Write program.json and tensors.safetensors."""
        save_program(self.program, directory)

    def write_files(self, run_dir: Path) -> None:
        """Write the run's ``program/``."""
        folder = run_dir / "program"
        folder.mkdir(exist_ok=True)
        self.save(folder)

    def served(self, run_dir: Path) -> ServedModel:
        """As a model that takes float images and gives logits, by `stages.serving`."""
        values = self.program.values
        return ServedModel(
            name="program",
            folder=run_dir / "program",
            loader_module="stages.serving",
            example=np.zeros((1, *values[self.program.input].shape), dtype=np.float32),
            outputs=tuple(values[self.program.output].shape),
            params={"backend": "reference"},
            requirements=("quantization-pipeline",),
        )

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read a saved program; ValueError names the file and what is wrong with it."""
        return cls(program=load_program(Path(directory)))

    @cached_property
    def _executables(self) -> dict[str, Executable]:
        return {}

    def _executable(self, backend: str) -> Executable:
        if backend not in self._executables:
            self._executables[backend] = load_backend(backend).compile(self.program)
        return self._executables[backend]

    def run(self, x: NDArray[np.float32], backend: str = "reference") -> NDArray[np.float32]:
        """Quantize float input (N, C, H, W), run on integers, dequantize: float32 logits (N, classes)."""
        q = quantize_input(self.program, x)
        return dequantize_output(self.program, self.run_integers(q, backend))

    def run_integers(self, q: Integers, backend: str = "reference") -> Integers:
        """Levels of the input value to levels of the output value, both with a batch dimension."""
        return self._executable(backend).run(q)

    def metrics(self) -> dict[str, float]:
        """``model/integer_bytes``: weights at their bits, biases, multipliers and zero points."""
        arrays = [
            t for op in self.program.ops for name, t in op.tensors.items() if not name.endswith("ratio")
        ]
        return {"model/integer_bytes": float(sum(map(stored_bytes, arrays)))}


@dataclass(frozen=True, kw_only=True)
class LayerParity:
    """One quantization point: how far integers and simulation, and two backends, lie apart.

    Args:
        name: the value's name.
        op: its operator.
        simulated_minus_integer: difference of levels → how often, over all samples and elements.
        reference_minus_backend: the same between the reference and the backend in use.
        sqnr_db: power of the float value over the power of (dequantized integer − float), in dB.
    """

    name: str
    op: str
    simulated_minus_integer: Mapping[int, int]
    reference_minus_backend: Mapping[int, int]
    sqnr_db: float

    @staticmethod
    def max_off_by(histogram: Mapping[int, int]) -> int:
        """The largest absolute difference that occurs."""
        return max((abs(d) for d, count in histogram.items() if count), default=0)

    @staticmethod
    def equal_share(histogram: Mapping[int, int], within: int = 0) -> float:
        """The share of elements that differ by at most `within` levels."""
        total = sum(histogram.values())
        return sum(c for d, c in histogram.items() if abs(d) <= within) / total if total else 1.0


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What a run measured.

    Args:
        values: flat metric name → number, as MLflow gets them.
        layers: parity by quantization point, in execution order.
        predictions: ``labels``, ``float``, ``simulated``, ``integer``: int64 (N,), the class each gave
            to each test sample.
        notes: what a reader should know: a backend that fell back, a rounding that is not exact.
    """

    kind: ClassVar[str] = "metrics"
    values: Mapping[str, float]
    layers: tuple[LayerParity, ...] = ()
    predictions: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def save(self, directory: Path) -> None:
        """Write ``values.json``, ``parity.json`` and ``predictions.safetensors``."""
        (directory / "values.json").write_text(json.dumps(dict(self.values), indent=1))
        self.write_files(directory)

    def write_files(self, run_dir: Path) -> None:
        """Write ``parity.json`` and ``predictions.safetensors``, by which runs are compared."""
        parity = {"notes": self.notes, "layers": [asdict(layer) for layer in self.layers]}
        (run_dir / "parity.json").write_text(json.dumps(parity, indent=1))
        save_arrays(dict(self.predictions), run_dir / "predictions.safetensors")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        parity = json.loads((directory / "parity.json").read_text())
        layers = tuple(LayerParity(**_integer_keys(layer)) for layer in parity["layers"])
        return cls(
            values=json.loads((directory / "values.json").read_text()),
            layers=layers,
            predictions=load_arrays(directory / "predictions.safetensors"),
            notes=tuple(parity["notes"]),
        )

    def metrics(self) -> dict[str, float]:
        """The flat numbers."""
        return dict(self.values)


def _integer_keys(layer: dict[str, Any]) -> dict[str, Any]:
    """JSON keys are strings where the histograms have integers."""
    return {
        key: {int(k): v for k, v in value.items()} if isinstance(value, dict) else value
        for key, value in layer.items()
    }
