"""Calibration: from what was observed to the grid of every value and every weight.

Values come first: a layer's bias is in steps of ``s_x · s_w``, so its weight's scale depends on its input's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

from pipeline.errors import PipelineError
from stages.graph.ir import Graph
from stages.graph.points import sources, weight_name
from stages.graph.quantized import QuantizedGraph
from stages.graph.residual import originals
from stages.graph.schemes import arranged, resolve_schemes
from stages.graph.tokens import BYTE, computed_numbers, token_counts, token_qparams
from stages.quant.calibrators.base import Calibration, Calibrator
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.base import Granularity
from stages.quant.outliers import Abnormal, abnormal
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import Quantizer, WeightsAndActivations
from stages.quant.statistics import Statistics
from stages.quant.weights import weight_levels, weight_qparams

log = logging.getLogger(__name__)


def calibrate(
    observed: Graph,
    statistics: Mapping[str, Statistics],
    quantizer: WeightsAndActivations,
    calibration: Calibration,
    granularity: Granularity,
) -> QuantizedGraph:
    """Choose the parameters of all points, then of all layers.

    Args:
        observed: the folded, fused network.
        statistics: by quantization point of `observed`.
        quantizer: the schemes of weights and activations.
        calibration: the calibrators of activations and weights.
        granularity: which weights share a scale.

    Raises:
        PipelineError: a range or a weight that has no grid; names the value or the layer.
    """
    graph = arranged(quantizer, observed)
    schemes = resolve_schemes(quantizer, graph)
    points = originals(graph, observed)
    activations = {
        name: _activation(name, statistics[points[name]], scheme, calibration.activation)
        for name, scheme in schemes.activations.items()
    }
    for name, count in token_counts(graph).items():
        if name in activations:
            activations[name] = token_qparams(count)
    for name, count in computed_numbers(graph).items():
        if name in activations and name not in schemes.floats:
            activations[name] = _whole_numbers(name, count, statistics[points[name]], activations[name])
    source = sources(graph)
    weights, levels = {}, {}
    for name, scheme in schemes.weights.items():
        node = graph[name]
        weight, bias = graph.params[node.params["weight"]], graph.param(node, "bias")
        read = activations.get(source[node.inputs[0]])
        step = None if read is None else read.scale
        weights[name] = layer_weight(name, weight, bias, step, scheme, calibration.weight, granularity)
        if (chosen := weight_levels(scheme, weight, weights[name], weight_name(node))) is not None:
            levels[name] = chosen
    return QuantizedGraph(
        graph=graph, activations=activations, weights=weights, floats=schemes.floats, levels=levels
    )


def layer_weight(
    name: str,
    weight: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
    quantizer: Quantizer,
    calibrator: Calibrator,
    granularity: Granularity,
) -> QParams:
    """The grid of the weight of the layer `name`: `stages.quant.weights.weight_qparams`, which it names.

    Raises:
        PipelineError: no grid fits the weight.
    """
    try:
        return weight_qparams(weight, bias, input_scale, quantizer, calibrator, granularity)
    except ValueError as error:
        raise PipelineError(f"quantizing the weight of '{name}': {error}") from error


def abnormal_points(statistics: Mapping[str, Statistics]) -> dict[str, Abnormal]:
    """The quantization points with abnormal observations, in the order of `statistics`."""
    found = {name: abnormal(one) for name, one in statistics.items()}
    return {name: one for name, one in found.items() if one is not None}


def _whole_numbers(name: str, count: int, observed: Statistics, qparams: QParams) -> QParams:
    """Levels that are numbers, where 8 bits hold those that were observed; else the range's."""
    low, high = float(observed.minimum.min()), float(observed.maximum.max())
    if low >= 0.0 and high < count:
        return token_qparams(count)
    if low >= 0.0 and count == BYTE:
        log.warning(
            "'%s': numbers of rows up to %g are rounded; 8 bits hold those below %d", name, high, BYTE
        )
    return qparams


def _activation(name: str, observed: Statistics, quantizer: Quantizer, calibrator: Calibrator) -> QParams:
    if quantizer.bits > 8:  # so many levels need no trade between range and resolution
        calibrator = MinMax()
    try:
        return quantizer.qparams(*calibrator.range(observed, quantizer.qparams))
    except ValueError as error:
        raise PipelineError(f"calibrating '{name}': {error}") from error
