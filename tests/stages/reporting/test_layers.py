"""The table's numbers, from parameters and observations."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.artifacts import IntegerProgram, Observations
from stages.graph.lower import lower
from stages.graph.quantized import QuantizedGraph
from stages.integer.bounds import layer_accumulators
from stages.quant.qparams import QParams
from stages.quant.statistics import Statistics
from stages.reporting.layers import layer_table
from stages.reporting.weights import weight_ranges
from tests.stages.reporting.test_page import rendered


def rows(run):
    return layer_table(run.observations, run.model, run.program, run.parity)


def test_rows_are_the_quantization_points_in_execution_order(run_of):
    assert [row.name for row in rows(run_of(["b", "a"]))] == ["input", "b", "a"]


def test_off_by_shares_sum_to_one_and_count_by_magnitude(run_of):
    row = rows(run_of(["conv"]))[1]
    assert row.simulated.largest == 4
    assert row.simulated.shares == pytest.approx((0.96, 0.03, 0.0, 0.01))
    assert row.simulated.within_1 == pytest.approx(0.99)
    assert row.backend.equal == 1.0


def test_range_and_clipped_share(run_of):
    """Levels 0..254 at zero point 100 and scale 0.02 span −2.00..3.08, and half a step more is rounded."""
    run = run_of(["conv"])
    zero = torch.tensor(100, dtype=torch.int32)
    qparams = QParams(scale=torch.tensor(0.02), zero_point=zero, quant_min=0, quant_max=254)
    values = torch.cat([torch.linspace(-2.0, 3.08, 97), torch.tensor([-2.2, 3.2, 4.0])])
    statistics = Statistics()
    statistics.update(values.reshape(1, -1))
    quantized = replace(run.model.quantized, activations={"input": qparams, "conv": qparams})
    run = replace(
        run,
        model=replace(run.model, quantized=quantized),
        observations=replace(run.observations, statistics={"input": statistics}),
    )
    first, second = rows(run)
    assert (first.minimum, first.maximum) == pytest.approx((-2.0, 3.08))
    assert first.clipped == pytest.approx(0.03)
    assert (second.observed, second.clipped) == (None, None)


def test_accumulator_bits_follow_from_weights_and_levels(run_of):
    """Levels −127..127 and weights of one: 127 times their number, and a bit for the sign."""
    run = run_of(["conv", "other"])
    ones = torch.ones(4, 4, 3, 3, dtype=torch.int8)
    few = torch.zeros_like(ones)
    few[:, 0] = 28  # 9 · 28 · 127 = 32,004 < 2^15 <= 9 · 29 · 127
    quantized = replace(run.model.quantized, levels={"conv": few, "other": few + (few > 0)})
    integers = IntegerProgram(program=lower(quantized, "float"))
    accumulators = layer_accumulators(integers.program)
    layers = tuple(replace(p, accumulator=accumulators.get(p.name)) for p in run.parity.layers)
    run = replace(run, parity=replace(run.parity, layers=layers))
    assert [row.accumulator_bits for row in rows(run)] == [None, 16, 17]
    assert integers.metrics()["convert/layers"] == 2.0
    assert integers.metrics()["convert/int16_layers"] == 1.0
    assert "16 would do for 1 of 2 layers" in rendered(run).page


def test_layers_without_parity_have_no_differences(run_of):
    run = replace(run_of(["conv"]), parity=None)
    assert {(row.simulated, row.backend, row.sqnr_db) for row in rows(run)} == {(None, None, None)}


def test_channels_below_half_a_step_are_counted_as_zero(run_of):
    """Channels of max 1.0, 0.5, 0.003, 0: one scale of 1/127 has a half step of 0.0039."""
    run = run_of(["conv"])
    graph = run.model.quantized.graph
    weight = torch.ones(4, 4, 3, 3) * torch.tensor([1.0, 0.5, 0.003, 0.0]).reshape(4, 1, 1, 1)
    per_channel = run.model.quantized.weights["conv"]
    per_channel = replace(per_channel, scale=weight.flatten(1).amax(1).clamp_min(1e-6) / 127)
    quantized = QuantizedGraph(
        graph=graph.with_params({"conv.weight": weight}),
        activations=run.model.quantized.activations,
        weights={"conv": per_channel},
    )
    (row,) = weight_ranges(quantized)
    np.testing.assert_allclose(row.maxima, [0.0, 0.003, 0.5, 1.0], rtol=1e-6)
    assert (row.zero_per_tensor, row.zero) == (2, 1)
    assert row.spread == pytest.approx(1.0 / 0.2515)


def test_a_network_without_weights_has_no_weight_ranges(run_of):
    run = run_of([])
    assert weight_ranges(run.model.quantized) == ()
    assert isinstance(run.observations, Observations)
