"""Stage *calibrate*: from statistics to scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs
from stages.artifacts import Observations, QuantizedModel
from stages.graph.ir import Graph
from stages.graph.points import layers, sources
from stages.graph.quantized import QuantizedGraph
from stages.quant.calibrators.base import Calibration
from stages.quant.granularity.base import Granularity
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.weights import weight_qparams


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Reduce each point's statistics to a range, and each range to quantization parameters.

    Args:
        quantizer: the schemes of weights and activations.
        calibration: the calibrators of activations and weights.
        granularity: which weights share a scale; activations are per tensor.
    """

    name: ClassVar[str] = "calibrate"
    consumes: ClassVar[tuple[type, ...]] = (Observations,)
    produces: ClassVar[type] = QuantizedModel
    code: ClassVar[tuple[str, ...]] = ("stages.artifacts", "stages.graph", "stages.quant")
    cacheable: ClassVar[bool] = True

    quantizer: WeightsAndActivations
    calibration: Calibration
    granularity: Granularity

    def check(self) -> None:
        """Nothing can be known to fail before the statistics are there."""

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Choose the parameters of all points, then of all layers, whose biases depend on them."""
        observations: Observations = inputs[Observations]
        activations = {}
        for name, statistics in observations.statistics.items():
            try:
                low, high = self.calibration.activation.range(statistics, self.quantizer.activation.qparams)
                activations[name] = self.quantizer.activation.qparams(low, high)
            except ValueError as error:
                raise PipelineError(f"calibrating '{name}': {error}") from error
        weights = self._weights(observations.graph, activations)
        return QuantizedModel(
            quantized=QuantizedGraph(graph=observations.graph, activations=activations, weights=weights)
        )

    def _weights(self, graph: Graph, activations: dict[str, QParams]) -> dict[str, QParams]:
        source = sources(graph)
        chosen = {}
        for name in layers(graph):
            node = graph[name]
            try:
                chosen[name] = weight_qparams(
                    graph.params[node.params["weight"]],
                    graph.param(node, "bias"),
                    activations[source[node.inputs[0]]].scale,
                    self.quantizer.weight,
                    self.calibration.weight,
                    self.granularity,
                )
            except ValueError as error:
                raise PipelineError(f"quantizing the weight of '{name}': {error}") from error
        return chosen
