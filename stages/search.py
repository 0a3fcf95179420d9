"""Stage *search*: bits for each layer within a budget, as a quantizer that the next run takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from omegaconf import OmegaConf

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs
from pipeline.store.keys import describe
from stages.precision.bits import Method, PerChoice, search
from stages.quant.quantizers.base import WeightsAndActivations
from stages.sensitivity import LayerSensitivity, SensitivityTable

Resource = Literal["bytes", "bit_operations"]

FOLDER = "mixed_precision"
"""In the run directory: give it to the next run as ``--config-dir``."""


@dataclass(frozen=True, kw_only=True)
class BitWidths:
    """The choice.

    Args:
        bits: of weights, by layer name.
        quantizer: the run's quantizer with these as rules of layers: a node of configuration.
        values: metrics: what the choice costs, and the sum of its layers' divergences.
    """

    kind: ClassVar[str] = "bit_widths"
    bits: Mapping[str, int]
    quantizer: Mapping[str, Any]
    values: Mapping[str, float]

    def save(self, directory: Path) -> None:
        """Write ``bit_widths.json``."""
        (directory / "bit_widths.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**json.loads((directory / "bit_widths.json").read_text()))

    def metrics(self) -> dict[str, float]:
        """``mixed_precision/…``: bytes, bit_operations, average_bits, divergence."""
        return {f"mixed_precision/{name}": value for name, value in self.values.items()}

    def write_files(self, run_dir: Path) -> None:
        """Write ``mixed_precision/quantizer/mixed.yaml``, an option of the group quantizer."""
        folder = run_dir / FOLDER / "quantizer"
        folder.mkdir(parents=True, exist_ok=True)
        heading = f"# Bits for each layer. Use: --config-dir <run directory>/{FOLDER} quantizer=mixed\n"
        text = OmegaConf.to_yaml(OmegaConf.create(dict(self.quantizer)))
        (folder / "mixed.yaml").write_text(heading + text)


@dataclass(frozen=True, kw_only=True)
class ChooseBits:
    """Give each layer's weight the bits with which the network loses least, within a budget.

    Layers that had a rule of their own keep it, and count against the budget.

    Args:
        quantizer: the run's quantizer, which the result extends.
        method: ``greedy``, or ``integer`` for integer programming, which finds the optimum.
        resource: ``bytes`` of weights, or ``bit_operations`` for one sample: multiply-accumulates × bits of
            the weight × bits of the activation.
        budget: of the resource; None for half of what the largest widths cost.
    """

    name: ClassVar[str] = "search"
    consumes: ClassVar[tuple[type, ...]] = (SensitivityTable,)
    produces: ClassVar[type] = BitWidths
    cacheable: ClassVar[bool] = True

    quantizer: WeightsAndActivations
    method: Method = "integer"
    resource: Resource = "bytes"
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not self.budget > 0.0:
            raise ValueError(
                f"budget={self.budget:g}: must be positive, in {self.resource.replace('_', ' ')}; or null "
                "for half of what the largest widths cost"
            )

    def check(self) -> None:
        """Whether the budget can be met is known with the layers' sizes."""

    def run(self, ctx: RunContext, inputs: Inputs) -> BitWidths:
        """Search; the sum of divergences is what is minimized."""
        layers: tuple[LayerSensitivity, ...] = inputs[SensitivityTable].layers
        widths = sorted({bits for layer in layers for bits in layer.effects})
        loss, cost = np.full((2, len(layers), len(widths)), np.inf)
        for row, layer in enumerate(layers):
            for bits, effect in layer.effects.items():
                loss[row, widths.index(bits)] = effect.divergence
                cost[row, widths.index(bits)] = _COSTS[self.resource](layer, bits)
        chosen = search(loss, cost, self._budget(cost), self.method)
        found = {layer.name: widths[choice] for layer, choice in zip(layers, chosen, strict=True)}
        searched = {layer.name: {"weight": found[layer.name]} for layer in layers if len(layer.effects) > 1}
        document: dict[str, Any] = describe(self.quantizer)
        document["layers"] = {**(document["layers"] or {}), **searched}
        return BitWidths(bits=found, quantizer=document, values=_values(layers, found))

    def _budget(self, cost: PerChoice) -> float:
        """The budget in the costs' unit: bits, or bit operations."""
        if self.budget is None:
            return 0.5 * float(np.where(np.isfinite(cost), cost, 0.0).max(axis=1).sum())
        unit = 8.0 if self.resource == "bytes" else 1.0
        least = float(cost.min(axis=1).sum()) / unit
        if self.budget < least:
            raise PipelineError(
                f"mixed_precision.search.budget={self.budget:g}: must be at least {least:.0f} "
                f"{self.resource.replace('_', ' ')}, what the fewest bits cost. Remedy: a larger budget, or "
                "fewer bits in mixed_precision.sensitivity.bits"
            )
        return self.budget * unit


def _weight_bits(layer: LayerSensitivity, bits: int) -> int:
    return layer.weights * bits


def _bit_operations(layer: LayerSensitivity, bits: int) -> int:
    return layer.macs * bits * layer.activation_bits


_COSTS = {"bytes": _weight_bits, "bit_operations": _bit_operations}


def _values(layers: tuple[LayerSensitivity, ...], bits: Mapping[str, int]) -> dict[str, float]:
    total = sum(_weight_bits(layer, bits[layer.name]) for layer in layers)
    return {
        "bytes": total / 8,
        "bit_operations": float(sum(_bit_operations(layer, bits[layer.name]) for layer in layers)),
        "average_bits": total / sum(layer.weights for layer in layers),
        "divergence": sum(layer.effects[bits[layer.name]].divergence for layer in layers),
    }
