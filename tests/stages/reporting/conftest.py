"""A small quantized network with everything that the report shows; the shapes of a run without its cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stages.artifacts import (
    LayerParity,
    Metrics,
    Observations,
    Parity,
    QuantizedModel,
    RoundingCost,
    Roundings,
    Speed,
    Speeds,
    Verdict,
)
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower
from stages.graph.points import layers, quantization_points
from stages.graph.quantized import QuantizedGraph
from stages.integer.bounds import layer_accumulators
from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics
from stages.reporting.page import RunResults

VALUES = {
    "float/top1": 0.8797,
    "simulated/top1": 0.8791,
    "integer/top1": 0.8788,
    "integer/agreement": 0.9993,
    "integer/sqnr_db": 27.36,
    "model/float_bytes": 1078640.0,
    "model/integer_bytes": 275922.0,
    "model/compression": 3.909,
}


def network(names: list[str]) -> Graph:
    """Convolutions one after the other."""
    attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    nodes = [Node(name="input", op="input", shape=(4, 5, 5))]
    params: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for name in names:
        params[f"{name}.weight"] = torch.randn(4, 4, 3, 3, generator=generator)
        inputs, keys = (nodes[-1].name,), {"weight": f"{name}.weight"}
        nodes.append(Node(name=name, op="conv2d", inputs=inputs, attrs=attrs, params=keys, shape=(4, 5, 5)))
    return Graph(nodes=tuple(nodes), params=params, output=nodes[-1].name)


def observed(*batches: torch.Tensor) -> Statistics:
    """Statistics of one tensor."""
    statistics = Statistics()
    for batch in batches:
        statistics.update(batch.reshape(1, -1))
    return statistics


def per_tensor(scale: float, quant_min: int = -127, quant_max: int = 127, zero_point: int = 0) -> QParams:
    """Parameters of an activation."""
    zero = torch.tensor(zero_point, dtype=torch.int32)
    return QParams(scale=torch.tensor(scale), zero_point=zero, quant_min=quant_min, quant_max=quant_max)


def make_run(names: list[str], **metrics: object) -> RunResults:
    """A run of `network(names)`; keyword arguments replace fields of its `Metrics`."""
    graph = network(names)
    points = quantization_points(graph)
    generator = torch.Generator().manual_seed(1)
    statistics = {name: observed(torch.randn(4000, generator=generator)) for name in points}
    activations = {name: per_tensor(0.02) for name in points}
    weights = {
        name: QParams(
            scale=torch.full((4,), 0.03),
            zero_point=torch.zeros(4, dtype=torch.int32),
            quant_min=-127,
            quant_max=127,
            ch_axis=0,
        )
        for name in layers(graph)
    }
    quantized = QuantizedGraph(graph=graph, activations=activations, weights=weights)
    accumulators = layer_accumulators(lower(quantized, "float"))
    parity = tuple(
        LayerParity(
            name=name,
            op=graph[name].op,
            simulated_minus_integer={0: 96, 1: 2, -1: 1, -4: 1},
            reference_minus_backend={0: 100},
            sqnr_db=30.0,
            accumulator=accumulators.get(name),
        )
        for name in points
    )
    labels = np.arange(50) % 5
    changed = labels.copy()
    changed[:3] = [1, 2, 0]
    predictions = {"labels": labels, "float": labels, "simulated": labels, "integer": changed}
    roundings = tuple(
        RoundingCost(
            mode=mode,
            exact=exact,
            equal_share=equal,
            max_off_by=off,
            agreement=1.0,
            measure="top1",
            quality=0.875,
        )
        for mode, exact, equal, off in (("float", True, 1.0, 0), ("fixed_point", False, 0.9375, 1))
    )
    fields = {"values": VALUES, "predictions": predictions} | metrics
    speeds = {"float": 2310.0, "simulated": 1203.0, "integer": 5320.0}
    return RunResults(
        observations=Observations(graph=graph, statistics=statistics, sample_ids=(0, 1)),
        model=QuantizedModel(quantized=quantized),
        metrics=Metrics(**fields),
        speeds=Speeds(
            forms={n: Speed(median=s, low=s - 100, high=s + 100) for n, s in speeds.items()},
            threads=2,
            batch_size=64,
        ),
        parity=Parity(layers=parity, samples=10, agreeing=10),
        roundings=Roundings(costs=roundings),
        verdict=Verdict(demanded="agreement of at least 99.00%"),
    )


@pytest.fixture
def run_of() -> Callable[..., RunResults]:
    return make_run
