"""Stage *sensitivity*: how much the network minds few bits, layer by layer."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import Observations
from stages.data.base import Data
from stages.data.batches import batches
from stages.graph.calibrate import layer_weight
from stages.graph.ir import Graph
from stages.graph.points import sources, weight_name
from stages.graph.schemes import Schemes, arranged, resolve_schemes
from stages.precision.sensitivity import RoundedWeight, RoundingEffect, Sensitivity, macs
from stages.quant.calibrators.base import Calibration
from stages.quant.granularity.base import Granularity
from stages.quant.qparams import quantize
from stages.quant.quantizers.base import Quantizer, WeightsAndActivations, with_bits
from stages.quant.weights import weight_levels
from stages.reporting.sensitivity import plot
from stages.tasks.base import Task
from stages.tasks.classification import Classification


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """One layer.

    Args:
        name: of the layer.
        weights: how many it has.
        macs: multiply-accumulates for one sample.
        activation_bits: of the value it reads.
        effects: by bits of its weight; one entry for a layer with a rule of its own.
    """

    name: str
    weights: int
    macs: int
    activation_bits: int
    effects: Mapping[int, RoundingEffect]


@dataclass(frozen=True, kw_only=True)
class SensitivityTable:
    """All quantized layers, in execution order."""

    kind: ClassVar[str] = "sensitivity"
    layers: tuple[LayerSensitivity, ...]

    def save(self, directory: Path) -> None:
        """Write ``sensitivity.json``."""
        document = [asdict(layer) for layer in self.layers]
        (directory / "sensitivity.json").write_text(json.dumps(document, indent=1))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document = json.loads((directory / "sensitivity.json").read_text())
        for layer in document:
            layer["effects"] = {
                int(bits): RoundingEffect(**effect) for bits, effect in layer["effects"].items()
            }
        return cls(layers=tuple(LayerSensitivity(**layer) for layer in document))

    def write_files(self, run_dir: Path) -> None:
        """Write ``sensitivity.csv``, a row for each layer and bits, and ``sensitivity.svg``."""
        with (run_dir / "sensitivity.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(next(self._rows())))
            writer.writeheader()
            writer.writerows(self._rows())
        divergences = {
            layer.name: {bits: effect.divergence for bits, effect in layer.effects.items()}
            for layer in self.layers
        }
        (run_dir / "sensitivity.svg").write_text(plot(divergences))

    def _rows(self) -> Iterator[dict[str, object]]:
        for layer in self.layers:
            shared = {k: getattr(layer, k) for k in ("name", "weights", "macs", "activation_bits")}
            for bits, effect in sorted(layer.effects.items()):
                yield {**shared, "bits": bits, **asdict(effect)}


@dataclass(frozen=True, kw_only=True)
class MeasureSensitivity:
    """Round one layer's weight at a time, and compare the outputs with the float network's.

    Args:
        data: the data set that the calibration samples are from.
        quantizer: the schemes; layers with a rule of their own are measured at their own bits only.
        calibration: the calibrator of weights.
        granularity: which weights share a scale.
        bits: the widths to try.
        samples: how many of the calibration samples, the first drawn.
        batch_size: samples at a time.
        task: what the outputs mean.
    """

    name: ClassVar[str] = "sensitivity"
    consumes: ClassVar[tuple[type, ...]] = (Observations,)
    produces: ClassVar[type] = SensitivityTable
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

    data: Data
    quantizer: WeightsAndActivations
    calibration: Calibration
    granularity: Granularity
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    samples: int = 256
    batch_size: int = 64
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        if not self.bits or not all(2 <= bits <= 8 for bits in self.bits):
            raise ValueError(f"bits={list(self.bits)}: must be some of 2..8")
        if self.quantizer.activation is None:
            raise ValueError("quantizer.activation=None: the costs of widths count an activation's bits too")
        for name in ("samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    def check(self) -> None:
        """Raise where the data is missing, or the scheme has no such widths."""
        self.data.check()
        for bits in self.bits:
            with_bits(self.quantizer.weight, bits)

    def run(self, ctx: RunContext, inputs: Inputs) -> SensitivityTable:
        """One pass over the samples."""
        observations: Observations = inputs[Observations]
        graph = arranged(self.quantizer, observations.graph)
        schemes = resolve_schemes(self.quantizer, graph)
        rounded = {name: self._rounded(graph, name, own) for name, own in schemes.weights.items()}
        sensitivity = Sensitivity(graph, rounded, self.task)
        ids = np.array(observations.sample_ids[: self.samples], dtype=np.int64)  # drawn across classes
        with ctx.console.progress("measuring sensitivity", len(ids)) as advance:
            for x, y in batches(self.data.train(), self.batch_size, self.data, order=ids):
                sensitivity.update(x, y)
                advance(len(x))
        return _table(graph, schemes, sensitivity.effects())

    def _rounded(self, graph: Graph, name: str, own: Quantizer) -> dict[int, RoundedWeight]:
        widths = self.bits if own is self.quantizer.weight else (own.bits,)
        weight = graph.params[graph[name].params["weight"]]
        found = {}
        for bits in widths:
            quantizer = with_bits(own, bits)
            qparams = layer_weight(
                name, weight, None, torch.tensor(1.0), quantizer, self.calibration.weight, self.granularity
            )
            levels = weight_levels(quantizer, weight, qparams, weight_name(graph[name]))
            found[bits] = (quantize(weight, qparams) if levels is None else levels, qparams)
        return found


def _table(
    graph: Graph, schemes: Schemes, effects: Mapping[str, Mapping[int, RoundingEffect]]
) -> SensitivityTable:
    source = sources(graph)
    return SensitivityTable(
        layers=tuple(
            LayerSensitivity(
                name=name,
                weights=graph.params[graph[name].params["weight"]].numel(),
                macs=macs(graph, name),
                activation_bits=schemes.activations[source[graph[name].inputs[0]]].bits,
                effects=effects[name],
            )
            for name in schemes.weights
        )
    )
