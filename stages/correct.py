"""Stages *adaround* and *bias*: a calibrated network improved layer by layer, without labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.seed import derive_seed
from pipeline.stage import Inputs
from stages.artifacts import Observations, QuantizedModel
from stages.data.base import Data
from stages.data.batches import batches
from stages.graph.corrections.adaround import Rounding
from stages.graph.corrections.bias import correct_bias
from stages.graph.corrections.lockstep import MIB, Correct, LayerInputs, Lockstep
from stages.graph.corrections.patches import sample_patches
from stages.graph.execute import activate
from stages.graph.ir import Graph
from stages.graph.points import layers
from stages.graph.quantized import QuantizedGraph

log = logging.getLogger(__name__)

CODE = ("stages.artifacts", "stages.graph", "stages.data", "stages.quant.qparams", "stages.quant.weights")


@dataclass(frozen=True, kw_only=True)
class AdaRound:
    """Round each weight up or down, by what it does to its layer's output over the calibration samples.

    Args:
        data: the data set that the calibration samples are from.
        rounding: the optimization of a layer.
        batch_size: samples a forward pass.
        memory: MiB of values to hold, and as many again of one layer's inputs.
    """

    name: ClassVar[str] = "adaround"
    consumes: ClassVar[tuple[type, ...]] = (QuantizedModel, Observations)
    produces: ClassVar[type] = QuantizedModel
    code: ClassVar[tuple[str, ...]] = CODE
    cacheable: ClassVar[bool] = True

    data: Data
    rounding: Rounding = field(default_factory=Rounding)
    batch_size: int = 64
    memory: int = 512

    def __post_init__(self) -> None:
        _check(self.batch_size, self.memory)

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Layer by layer; the tracker gets each layer's error, relative to nearest rounding."""
        quantized: QuantizedGraph = inputs[QuantizedModel].quantized
        if quantized.levels:
            raise PipelineError(
                f"correction=adaround: the levels of '{next(iter(quantized.levels))}' were chosen by its "
                "quantizer, and are not for rounding. Remedy: quantizer=symmetric, affine or power_of_two"
            )
        names = layers(quantized.graph)
        with ctx.console.progress("rounding layers", len(names)) as advance:

            def correct(quantized: QuantizedGraph, layer: LayerInputs) -> QuantizedGraph:
                name = layer.node.name
                generator = torch.Generator().manual_seed(derive_seed(ctx.seed, f"adaround/{name}"))
                patches = sample_patches(quantized.graph, layer, self.memory * MIB, generator)
                rounded = self.rounding.round(
                    quantized.graph.params[layer.node.params["weight"]],
                    quantized.layer_params(layer.node)[1],
                    quantized.weights[name],
                    patches,
                    partial(activate, layer.node),
                )
                nearest = float(rounded.nearest_error.sum())
                relative = float(rounded.error.sum()) / nearest if nearest else 1.0
                log.info("%s: error %.4f of nearest rounding's", name, relative)
                ctx.tracker.metrics({"adaround/relative_error": relative}, step=names.index(name))
                advance(1, error=relative)
                return replace(quantized, levels={**quantized.levels, name: rounded.levels})

            lockstep = Lockstep(batch_size=self.batch_size, memory=self.memory, folder=ctx.scratch)
            return _correct(lockstep, self.data, inputs, correct)


@dataclass(frozen=True, kw_only=True)
class BiasCorrection:
    """Give each output channel the mean that it has in the float network, over the calibration samples.

    Args:
        data: the data set that the calibration samples are from.
        batch_size: samples a forward pass.
        memory: MiB of values to hold.
    """

    name: ClassVar[str] = "bias"
    consumes: ClassVar[tuple[type, ...]] = (QuantizedModel, Observations)
    produces: ClassVar[type] = QuantizedModel
    code: ClassVar[tuple[str, ...]] = CODE
    cacheable: ClassVar[bool] = True

    data: Data
    batch_size: int = 64
    memory: int = 512

    def __post_init__(self) -> None:
        _check(self.batch_size, self.memory)

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Layer by layer, each on the values that the corrected ones before it give."""
        graph = inputs[QuantizedModel].quantized.graph
        with ctx.console.progress("correcting biases", len(layers(graph))) as advance:

            def correct(quantized: QuantizedGraph, layer: LayerInputs) -> QuantizedGraph:
                advance(1)
                return correct_bias(quantized, layer, batch_size=self.batch_size)

            lockstep = Lockstep(batch_size=self.batch_size, memory=self.memory, folder=ctx.scratch)
            return _correct(lockstep, self.data, inputs, correct)


def _check(batch_size: int, memory: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    if memory < 1:
        raise ValueError(f"memory={memory}: must be at least 1 MiB")


def _correct(lockstep: Lockstep, data: Data, inputs: Inputs, correct: Correct) -> QuantizedModel:
    quantized: QuantizedGraph = inputs[QuantizedModel].quantized
    if _retrained(quantized.graph, inputs[Observations].graph):
        raise PipelineError(
            "correction: the network was trained further after its calibration, which has chosen its levels. "
            "Remedy: training=post_training, or correction=[]; equalize and smooth go with either"
        )
    x = _calibration_samples(data, inputs[Observations], lockstep.batch_size)
    return QuantizedModel(quantized=lockstep.correct(quantized, x, correct))


def _retrained(graph: Graph, calibrated: Graph) -> bool:
    def weight(graph: Graph, name: str) -> Tensor:
        return graph.params[graph[name].params["weight"]]

    return any(not torch.equal(weight(graph, name), weight(calibrated, name)) for name in layers(calibrated))


def _calibration_samples(data: Data, observations: Observations, batch_size: int) -> Tensor:
    """The samples that calibration observed, float32 (N, C, H, W)."""
    order = np.array(observations.sample_ids, dtype=np.int64)
    return torch.cat([x for x, _ in batches(data.train(), batch_size, data, order=order)])
