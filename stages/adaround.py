"""Stage *adaround*: weights rounded up or down by what it does to their layer's output; no labels."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch

from pipeline.context import RunContext
from pipeline.seed import derive_seed
from pipeline.stage import Inputs, Stage
from stages.artifacts import Observations, QuantizedModel
from stages.corrections.adaround import Rounding
from stages.corrections.lockstep import MIB, LayerInputs, Lockstep
from stages.corrections.patches import sample_patches
from stages.corrections.samples import (
    calibration_samples,
    check_as_calibrated,
    check_sizes,
    misfits_of_training,
)
from stages.data.base import Data
from stages.graph.execute import activate
from stages.graph.points import layers
from stages.graph.quantized import QuantizedGraph
from stages.quant.quantizers.base import ChoosesLevels
from stages.quant.quantizers.chosen import chosen_quantizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdaRound:
    """Round each weight up or down, by what it does to its layer's output over the calibration samples.

    Layers whose quantizer chooses levels itself (a codebook) keep them.

    Args:
        data: the data set that the calibration samples are from.
        rounding: the optimization of a layer.
        batch_size: samples a forward pass.
        memory: MiB of values to hold, and as many again of one layer's inputs.
    """

    name: ClassVar[str] = "adaround"
    consumes: ClassVar[tuple[type, ...]] = (QuantizedModel, Observations)
    produces: ClassVar[type] = QuantizedModel
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

    data: Data
    rounding: Rounding = field(default_factory=Rounding)
    batch_size: int = 64
    memory: int = 512

    def __post_init__(self) -> None:
        check_sizes(self.batch_size, self.memory)

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """Training, and quantizers that leave nothing to round."""
        yield from misfits_of_training(self.name, stages)
        quantizer = chosen_quantizer(stages)
        if quantizer and all(isinstance(own, ChoosesLevels) for _, own in quantizer.of_weights()):
            yield (
                f"correction=adaround: {type(quantizer.weight).__name__} chooses the levels of weights "
                "itself, and leaves none to round. Remedy: quantizer=symmetric, affine or power_of_two"
            )

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Layer by layer; the tracker gets each layer's error, relative to nearest rounding."""
        quantized: QuantizedGraph = inputs[QuantizedModel].quantized
        observations: Observations = inputs[Observations]
        check_as_calibrated(quantized.graph, observations.graph)
        x = calibration_samples(self.data, observations.sample_ids, self.batch_size)
        names = layers(quantized.graph)
        with ctx.console.progress("rounding layers", len(names)) as advance:

            def correct(quantized: QuantizedGraph, layer: LayerInputs) -> QuantizedGraph:
                name = layer.node.name
                if name in quantized.levels:  # its quantizer has chosen them
                    advance(1)
                    return quantized
                generator = torch.Generator().manual_seed(derive_seed(ctx.seed, f"adaround/{name}"))
                patches = sample_patches(quantized.graph, layer, self.memory * MIB, generator)
                rounded = self.rounding.round(
                    quantized.graph.params[layer.node.params["weight"]],
                    quantized.layer_params(layer.node)[1],
                    quantized.weights[name],
                    patches,
                    partial(activate, layer.node),
                    quantized.graph.mask(layer.node.params["weight"]),
                )
                nearest = float(rounded.nearest_error.sum())
                relative = float(rounded.error.sum()) / nearest if nearest else 1.0
                log.info("%s: error %.4f of nearest rounding's", name, relative)
                ctx.tracker.metrics({"adaround/relative_error": relative}, step=names.index(name))
                advance(1, error=relative)
                return replace(quantized, levels={**quantized.levels, name: rounded.levels})

            lockstep = Lockstep(batch_size=self.batch_size, memory=self.memory, folder=ctx.scratch)
            return QuantizedModel(quantized=lockstep.correct(quantized, x, correct))
