"""What a run measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays


@dataclass(frozen=True, kw_only=True)
class LayerParity:
    """One quantization point: how far integers and simulation, and two backends, lie apart.

    Args:
        name: the value's name.
        op: its operator.
        simulated_minus_integer: difference of levels → how often, over all samples and elements.
        reference_minus_backend: the same between the reference and the backend in use.
        sqnr_db: power of the float value over the power of (dequantized integer − float), in dB.
        accumulator: the largest magnitude that an accumulator takes, whatever the input; None where the
            operator has none.
    """

    name: str
    op: str
    simulated_minus_integer: Mapping[int, int]
    reference_minus_backend: Mapping[int, int]
    sqnr_db: float
    accumulator: int | None = None

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
class RoundingCost:
    """One requantization mode beside the chosen one: same weights, same samples, exact kernels.

    Args:
        mode: of `Program.requantize`.
        exact: whether the backend in use computes it exactly.
        equal_share: the share of output levels that are those of the chosen mode.
        max_off_by: the largest difference from them.
        same_top1: the share of samples with the chosen mode's top-1.
        top1: the accuracy.
    """

    mode: str
    exact: bool
    equal_share: float
    max_off_by: int
    same_top1: float
    top1: float


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What a run measured.

    Args:
        values: flat metric name → number, as MLflow gets them.
        layers: parity by quantization point, in execution order.
        roundings: what each requantization mode gives on the parity samples, the chosen one first.
        predictions: ``labels``, ``float``, ``simulated``, ``integer``: int64 (N,), the class each gave
            to each test sample.
        notes: what a reader should know: a backend that fell back, a rounding that is not exact.
    """

    kind: ClassVar[str] = "metrics"
    values: Mapping[str, float]
    layers: tuple[LayerParity, ...] = ()
    roundings: tuple[RoundingCost, ...] = ()
    predictions: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def save(self, directory: Path) -> None:
        """Write ``values.json``, ``parity.json`` and ``predictions.safetensors``."""
        (directory / "values.json").write_text(json.dumps(dict(self.values), indent=1))
        self.write_files(directory)

    def write_files(self, run_dir: Path) -> None:
        """Write ``parity.json`` and ``predictions.safetensors``, by which runs are compared."""
        parity = {
            "notes": self.notes,
            "roundings": [asdict(rounding) for rounding in self.roundings],
            "layers": [asdict(layer) for layer in self.layers],
        }
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
            roundings=tuple(RoundingCost(**rounding) for rounding in parity["roundings"]),
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
