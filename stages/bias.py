"""Stage *bias*: biases with which every channel has the float network's mean; no labels."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs, Stage
from stages.artifacts import Observations, QuantizedModel
from stages.corrections.bias import correct_bias
from stages.corrections.lockstep import LayerInputs, Lockstep
from stages.corrections.samples import (
    calibration_samples,
    check_as_calibrated,
    check_sizes,
    misfits_of_training,
)
from stages.data.base import Data
from stages.graph.points import layers
from stages.graph.quantized import QuantizedGraph

log = logging.getLogger(__name__)


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
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

    data: Data
    batch_size: int = 64
    memory: int = 512

    def __post_init__(self) -> None:
        check_sizes(self.batch_size, self.memory)

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """Training."""
        return misfits_of_training(self.name, stages)

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Layer by layer, each on the values that the corrected ones before it give."""
        quantized: QuantizedGraph = inputs[QuantizedModel].quantized
        observations: Observations = inputs[Observations]
        check_as_calibrated(quantized.graph, observations.graph)
        x = calibration_samples(self.data, observations.sample_ids, self.batch_size)
        with ctx.console.progress("correcting biases", len(layers(quantized.graph))) as advance:

            def correct(quantized: QuantizedGraph, layer: LayerInputs) -> QuantizedGraph:
                advance(1)
                return correct_bias(quantized, layer, batch_size=self.batch_size)

            lockstep = Lockstep(batch_size=self.batch_size, memory=self.memory, folder=ctx.scratch)
            return QuantizedModel(quantized=lockstep.correct(quantized, x, correct))
