"""From a measured network to a quantizer that the next run takes."""

import csv
from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from pipeline.configuration.builder import Builder
from pipeline.errors import PipelineError
from stages.artifacts import Observations
from stages.data.digits import Digits
from stages.graph.schemes import resolve_schemes
from stages.precision.sensitivity import RoundingEffect
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.codebook import Codebook
from stages.quant.quantizers.symmetric import Symmetric
from stages.search import BitWidths, ChooseBits
from stages.sensitivity import LayerSensitivity, MeasureSensitivity, SensitivityTable

QUANTIZER = WeightsAndActivations(
    weight=Symmetric(bits=8, signed=True), activation=Symmetric(bits=8), layers={"classifier": {"weight": 6}}
)


@pytest.fixture(scope="module")
def measure():
    return MeasureSensitivity(
        data=Digits(),
        quantizer=QUANTIZER,
        calibration=Calibration(activation=MinMax()),
        granularity=PerChannel(),
        bits=(2, 4, 8),
        samples=64,
        batch_size=32,
    )


@pytest.fixture
def table(ctx, digits_inputs, measure):
    return measure.run(ctx, digits_inputs)


def test_all_layers_are_measured_and_those_with_a_rule_at_their_own_bits(table, digits_inputs):
    graph = digits_inputs[Observations].graph
    assert {layer.name: set(layer.effects) for layer in table.layers} == {
        name: {6} if name == "classifier" else {2, 4, 8} for name in resolve_schemes(QUANTIZER, graph).weights
    }


def test_the_table_survives_saving_and_is_written_as_csv_and_svg(table, tmp_path):
    table.save(tmp_path)
    assert SensitivityTable.load(tmp_path) == table
    table.write_files(tmp_path)
    with (tmp_path / "sensitivity.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = table.layers[0]
    assert rows[1]["name"] == first.name
    assert rows[1]["bits"] == "4"
    assert float(rows[1]["divergence"]) == first.effects[4].divergence
    assert len(rows) == sum(len(layer.effects) for layer in table.layers)
    assert "<svg" in (tmp_path / "sensitivity.svg").read_text()


@pytest.mark.parametrize("method", ["greedy", "integer"])
@pytest.mark.parametrize("resource", ["bytes", "bit_operations"])
def test_the_next_run_gets_the_chosen_bits(ctx, table, digits_inputs, method, resource, tmp_path):
    choice = ChooseBits(quantizer=QUANTIZER, method=method, resource=resource).run(
        ctx, {SensitivityTable: table}
    )
    choice.write_files(tmp_path)
    assert set(choice.bits.values()) - {6} <= {2, 4, 8}
    full = sum(_cost(layer, max(layer.effects), resource) for layer in table.layers)
    spent = sum(_cost(layer, choice.bits[layer.name], resource) for layer in table.layers)
    assert 0.0 < spent <= 0.5 * full
    assert choice.metrics()[f"mixed_precision/{resource}"] == spent

    config = OmegaConf.create(
        {"quantizer": OmegaConf.load(tmp_path / "mixed_precision/quantizer/mixed.yaml")}
    )
    builder = Builder(config)
    quantizer = builder.build("quantizer")
    builder.raise_problems()
    schemes = resolve_schemes(quantizer, digits_inputs[Observations].graph)
    assert {name: own.bits for name, own in schemes.weights.items()} == choice.bits


def _cost(layer, bits, resource):
    if resource == "bytes":
        return layer.weights * bits / 8
    return layer.macs * bits * layer.activation_bits


def test_the_choice_survives_saving(ctx, table, tmp_path):
    choice = ChooseBits(quantizer=QUANTIZER).run(ctx, {SensitivityTable: table})
    choice.save(tmp_path)
    assert BitWidths.load(tmp_path) == choice


def test_sensitive_layers_keep_more_bits(ctx):
    def layer(name, divergence):
        effects = {
            b: RoundingEffect(sqnr_db=0.0, divergence=divergence / b, loss_change=0.0) for b in (2, 4, 8)
        }
        return LayerSensitivity(name=name, weights=100, macs=100, activation_bits=8, effects=effects)

    table = SensitivityTable(layers=(layer("calm", 0.1), layer("touchy", 10.0)))
    stage = ChooseBits(quantizer=replace(QUANTIZER, layers=None), budget=125.0)
    assert stage.run(ctx, {SensitivityTable: table}).bits == {"calm": 2, "touchy": 8}


@pytest.mark.parametrize("budget", [0.0, -1.0])
def test_a_budget_of_nothing_is_refused_before_anything_is_measured(budget):
    with pytest.raises(ValueError, match=rf"budget={budget:g}: must be positive, in bytes; or null"):
        ChooseBits(quantizer=QUANTIZER, budget=budget)


def test_a_budget_that_cannot_be_met_is_refused(ctx, table):
    stage = ChooseBits(quantizer=QUANTIZER, budget=10.0)
    with pytest.raises(PipelineError, match=r"search.budget=10: must be at least \d+ bytes.*Remedy"):
        stage.run(ctx, {SensitivityTable: table})


def test_widths_that_do_not_exist_are_refused(measure):
    with pytest.raises(ValueError, match=r"bits=\[1, 4\]: must be some of 2..8"):
        replace(measure, bits=(1, 4))


def test_codebooks_are_measured_as_they_round(ctx, digits_inputs, measure):
    quantizer = WeightsAndActivations(weight=Codebook(bits=4), activation=Symmetric(bits=8))
    table = replace(measure, quantizer=quantizer, bits=(2, 4)).run(ctx, digits_inputs)
    for layer in table.layers:
        assert layer.effects[2].sqnr_db < layer.effects[4].sqnr_db
