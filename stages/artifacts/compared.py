"""What a run compared: integers with simulation and float, layer by layer, and the ways to round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from stages.artifacts.measured import write_json


@dataclass(frozen=True, kw_only=True)
class LayerParity:
    """One value of the network: how far integers and simulation, and two backends, lie apart.

    Args:
        name: the value's name.
        op: its operator.
        simulated_minus_integer: difference of levels → how often, over all samples and elements.
        reference_minus_backend: the same between the reference and the backend in use.
        sqnr_db: power of the float value over the power of (dequantized integer − float), in dB; None where
            it was not measured, or is not defined because the two are equal, which `noiseless` says.
        noiseless: whether the integers stand for exactly the float values.
        accumulator: the largest magnitude that an accumulator takes, whatever the input; None where the
            operator has none.
    """

    name: str
    op: str
    simulated_minus_integer: Mapping[int, int]
    reference_minus_backend: Mapping[int, int]
    sqnr_db: float | None
    noiseless: bool = False
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
class Parity:
    """All values of the network, compared on the same samples.

    Args:
        layers: in execution order.
        samples: how many were compared.
        agreeing: of them, those whose decision is the same in the reference and the backend in use.
        decision: what that is: ``top-1``, or as the task says.
        notes: what the backend in use says of itself.
    """

    kind: ClassVar[str] = "parity"
    layers: tuple[LayerParity, ...]
    samples: int
    agreeing: int
    decision: str = "top-1"
    notes: tuple[str, ...] = ()

    def save(self, directory: Path) -> None:
        """Write ``parity.json``."""
        self.write_files(directory)

    def write_files(self, run_dir: Path) -> None:
        """Write ``parity.json``."""
        write_json(run_dir / "parity.json", asdict(self))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document = json.loads((directory / "parity.json").read_text())
        return cls(
            layers=tuple(LayerParity(**_integer_keys(layer)) for layer in document["layers"]),
            samples=document["samples"],
            agreeing=document["agreeing"],
            decision=document["decision"],
            notes=tuple(document["notes"]),
        )

    def metrics(self) -> dict[str, float]:
        """``parity/…``: shares are those of the worst layer and of all elements."""
        simulated = [layer.simulated_minus_integer for layer in self.layers]
        backend = [layer.reference_minus_backend for layer in self.layers]
        everything: dict[int, int] = {}
        decision = self.decision.replace("-", "")
        for histogram in backend:
            for difference, count in histogram.items():
                everything[difference] = everything.get(difference, 0) + count
        return {
            "parity/samples": float(self.samples),
            "parity/max_off_by": float(max(map(LayerParity.max_off_by, simulated), default=0)),
            "parity/worst_equal_share": min(map(LayerParity.equal_share, simulated), default=1.0),
            "parity/backend_max_off_by": float(max(map(LayerParity.max_off_by, backend), default=0)),
            "parity/backend_equal_share": LayerParity.equal_share(everything),
            "parity/backend_within_1": LayerParity.equal_share(everything, within=1),
            f"parity/backend_same_{decision}": self.agreeing / self.samples if self.samples else 1.0,
        }


@dataclass(frozen=True, kw_only=True)
class RoundingCost:
    """One requantization mode beside the chosen one: same weights, same samples, exact kernels.

    Args:
        mode: of `Program.requantize`.
        exact: whether the backend in use computes it exactly.
        equal_share: the share of output levels that are those of the chosen mode.
        max_off_by: the largest difference from them.
        agreement: the share of samples with the chosen mode's decision.
        measure: the key of the figure in `quality`: ``top1``, or as the task says.
        quality: its value; None where it is not defined.
    """

    mode: str
    exact: bool
    equal_share: float
    max_off_by: int
    agreement: float
    measure: str
    quality: float | None


@dataclass(frozen=True, kw_only=True)
class Roundings:
    """What each requantization mode gives on the parity samples, the chosen one first."""

    kind: ClassVar[str] = "roundings"
    costs: tuple[RoundingCost, ...]

    def save(self, directory: Path) -> None:
        """Write ``rounding.json``."""
        self.write_files(directory)

    def write_files(self, run_dir: Path) -> None:
        """Write ``rounding.json``."""
        write_json(run_dir / "rounding.json", [asdict(cost) for cost in self.costs])

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document = json.loads((directory / "rounding.json").read_text())
        return cls(costs=tuple(RoundingCost(**cost) for cost in document))

    def metrics(self) -> dict[str, float]:
        """``rounding/<mode>/equal_share`` and the task's figure, ``rounding/<mode>/top1``."""
        values = {}
        for cost in self.costs:
            values[f"rounding/{cost.mode}/equal_share"] = cost.equal_share
            if cost.quality is not None:
                values[f"rounding/{cost.mode}/{cost.measure}"] = cost.quality
        return values


def _integer_keys(layer: dict[str, Any]) -> dict[str, Any]:
    """JSON keys are strings where the histograms have integers."""
    return {
        key: {int(k): v for k, v in value.items()} if isinstance(value, dict) else value
        for key, value in layer.items()
    }
