"""Stage *reconstruct*: weights' rounding and activations' scales, learned block by block; no labels."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from pipeline.context import RunContext
from pipeline.seed import derive_seed
from pipeline.stage import Inputs, Stage
from stages.artifacts import Observations, QuantizedModel
from stages.corrections.lockstep import BlockInputs, Lockstep
from stages.corrections.reconstruct import Reconstruction
from stages.corrections.samples import (
    calibration_samples,
    check_as_calibrated,
    check_sizes,
    misfits_of_training,
)
from stages.data.base import Data
from stages.graph.blocks import blocks
from stages.graph.quantized import QuantizedGraph
from stages.graph.schemes import resolve_schemes
from stages.graph.tokens import computed_numbers, token_counts
from stages.quant.estimators.base import Start
from stages.quant.estimators.scheme import start_of
from stages.quant.quantizers.base import ChoosesLevels, WeightsAndActivations

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reconstruct:
    """Round weights, and choose the scales of values, by what they do to their block's output.

    Layers whose quantizer chooses levels itself (a codebook) keep them; scales are those that the quantizer
    can have. A block is a residual block, a part of a transformer, an inverted residual, or a layer
    (`stages.graph.blocks`).

    Args:
        data: the data set that the calibration samples are from.
        quantizer: the schemes that calibrated the network.
        optimization: of a block.
        largest_block: most layers of a block; a larger one is corrected layer by layer.
        batch_size: samples a forward pass.
        memory: MiB of values to hold; those beyond it lie in files.
    """

    name: ClassVar[str] = "reconstruct"
    consumes: ClassVar[tuple[type, ...]] = (QuantizedModel, Observations)
    produces: ClassVar[type] = QuantizedModel
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

    data: Data
    quantizer: WeightsAndActivations
    optimization: Reconstruction = field(default_factory=Reconstruction)
    largest_block: int = 12
    batch_size: int = 64
    memory: int = 512

    def __post_init__(self) -> None:
        check_sizes(self.batch_size, self.memory)
        if self.largest_block < 1:
            raise ValueError(f"largest_block={self.largest_block}: must be at least 1, layer by layer")

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """Training, AdaRound, and quantizers that leave nothing to learn."""
        yield from misfits_of_training(self.name, stages)
        if "adaround" in {stage.name for stage in stages}:
            yield (
                "correction=[adaround,reconstruct]: both choose how weights are rounded. Remedy: one of "
                "them; reconstruct takes longer and is better below 8 bits"
            )
        chooses = all(isinstance(own, ChoosesLevels) for _, own in self.quantizer.of_weights())
        if chooses and (self.quantizer.activation is None or self.optimization.scale_learning_rate == 0.0):
            yield (
                f"correction=reconstruct: {type(self.quantizer.weight).__name__} chooses the levels of "
                "weights itself, and no scale of values is learned: nothing is left. Remedy: "
                "quantizer=symmetric, affine or power_of_two"
            )

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Block by block; the tracker gets each block's error, relative to that of before."""
        quantized: QuantizedGraph = inputs[QuantizedModel].quantized
        observations: Observations = inputs[Observations]
        check_as_calibrated(quantized.graph, observations.graph)
        x = calibration_samples(self.data, observations.sample_ids, self.batch_size)
        parts = blocks(quantized.graph, self.largest_block)
        starts = starts_of(quantized, self.quantizer)
        with ctx.console.progress("reconstructing blocks", len(parts)) as advance:

            def correct(quantized: QuantizedGraph, block: BlockInputs) -> QuantizedGraph:
                name = block.nodes[-1].name
                chance = np.random.default_rng(derive_seed(ctx.seed, f"reconstruct/{name}"))
                found, relative = self.optimization.reconstruct(quantized, block, starts, chance)
                log.info("block up to %s: error %.4f of what it was", name, relative)
                ctx.tracker.metrics({"reconstruct/relative_error": relative}, step=parts.index(block.nodes))
                advance(1, error=relative)
                return found

            lockstep = Lockstep(batch_size=self.batch_size, memory=self.memory, folder=ctx.scratch)
            return QuantizedModel(quantized=lockstep.correct_blocks(quantized, x, parts, correct))


def starts_of(quantized: QuantizedGraph, quantizer: WeightsAndActivations) -> Mapping[str, Start]:
    """By quantization point, where its learned scale starts; numbers of tokens have no scale to learn."""
    graph = quantized.graph
    numbers = {*token_counts(graph), *computed_numbers(graph)}
    schemes = resolve_schemes(quantizer, graph).activations if quantized.activations else {}
    return {
        name: start_of(qparams, schemes[name])
        for name, qparams in quantized.activations.items()
        if name in schemes and name not in numbers
    }
