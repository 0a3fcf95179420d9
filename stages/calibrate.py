"""Stage *calibrate*: from statistics to scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs
from stages.artifacts import Observations, QuantizedModel
from stages.graph.points import sources, weight_name
from stages.graph.quantized import QuantizedGraph
from stages.graph.residual import originals
from stages.graph.schemes import arranged, resolve_schemes
from stages.quant.calibrators.base import Calibration
from stages.quant.granularity.base import Granularity
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.weights import weight_levels, weight_qparams


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
    cacheable: ClassVar[bool] = True

    quantizer: WeightsAndActivations
    calibration: Calibration
    granularity: Granularity

    def check(self) -> None:
        """Nothing can be known to fail before the statistics are there."""

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Choose the parameters of all points, then of all layers, whose biases depend on them."""
        observations: Observations = inputs[Observations]
        graph = arranged(self.quantizer, observations.graph)
        statistics = originals(graph, observations.graph)
        schemes = resolve_schemes(self.quantizer, graph)
        activations = {}
        for name, activation in schemes.activations.items():
            grid, observed = activation.qparams, observations.statistics[statistics[name]]
            try:
                activations[name] = grid(*self.calibration.activation.range(observed, grid))
            except ValueError as error:
                raise PipelineError(f"calibrating '{name}': {error}") from error
        source = sources(graph)
        weights, levels = {}, {}
        for name, quantizer in schemes.weights.items():
            node = graph[name]
            weight = graph.params[node.params["weight"]]
            read = activations.get(source[node.inputs[0]])
            try:
                weights[name] = weight_qparams(
                    weight,
                    graph.param(node, "bias"),
                    None if read is None else read.scale,
                    quantizer,
                    self.calibration.weight,
                    self.granularity,
                )
            except ValueError as error:
                raise PipelineError(f"quantizing the weight of '{name}': {error}") from error
            if (chosen := weight_levels(quantizer, weight, weights[name], weight_name(node))) is not None:
                levels[name] = chosen
        return QuantizedModel(
            quantized=QuantizedGraph(graph=graph, activations=activations, weights=weights, levels=levels)
        )
