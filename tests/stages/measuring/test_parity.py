"""Layers are compared with what is there: a program alone has no float values."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from stages.artifacts import LayerParity, Parity
from stages.backends.reference import Reference
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.integer.interpreter import quantize_input
from stages.measuring.parity import LayerComparison
from stages.tasks.classification import Classification
from tests.stages.reporting.conftest import make_run

X = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def quantized():
    return make_run(["one", "two"]).model.quantized


def compared(quantized, program, backend, reference=None):
    comparison = LayerComparison(program, backend, reference, quantized, Classification())
    for batch in X.split(4):
        comparison.update(batch)
    return comparison.parity()


class Shifted:
    """The reference with one value's levels off by one, away from the ends."""

    name = "shifted"
    notes = ("shifted by one",)

    def __init__(self, program, value):
        self._exact = Reference().compile(program)
        self._value = value

    def trace(self, q):
        levels = self._exact.trace(q)
        exact = levels[self._value]
        return levels | {self._value: np.where(exact > 0, exact - 1, exact + 1).astype(exact.dtype)}


def test_every_value_is_compared_with_simulation_and_float(quantized):
    program = lower(quantized, "float")
    exact = Reference().compile(program)
    parity = compared(quantized, program, exact)
    assert [(layer.name, layer.op) for layer in parity.layers] == [
        ("input", "input"),
        ("one", "conv2d"),
        ("two", "conv2d"),
    ]
    assert (parity.samples, parity.agreeing) == (6, 6)
    elements = [6 * 4 * 5 * 5] * 3
    assert [layer.simulated_minus_integer for layer in parity.layers] == [{0: n} for n in elements]
    assert [layer.reference_minus_backend for layer in parity.layers] == [{0: n} for n in elements]
    floats = {}
    execute(quantized.graph, X, lambda node, value: floats.setdefault(node.name, value))
    levels = exact.trace(quantize_input(program, X.numpy()))
    for layer in parity.layers:
        value, real = program.values[layer.name], floats[layer.name].detach().numpy()
        noise = (levels[layer.name].astype(np.float32) - value.zero_point) * np.float32(value.scale) - real
        expected = 10 * np.log10(np.square(real, dtype=float).sum() / np.square(noise, dtype=float).sum())
        assert layer.sqnr_db == pytest.approx(expected)
        assert not layer.noiseless


def test_a_program_alone_is_compared_with_simulation_and_reference(quantized):
    program = lower(quantized, "float")
    parity = compared(None, program, Shifted(program, "one"), Reference().compile(program))
    assert [layer.name for layer in parity.layers] == ["input", "one", "two"]
    shifted = parity.layers[1].reference_minus_backend
    assert set(shifted) == {-1, 1} and sum(shifted.values()) == 6 * 4 * 5 * 5
    assert parity.layers[2].reference_minus_backend == {0: 6 * 4 * 5 * 5}
    assert parity.layers[1].simulated_minus_integer == shifted  # the simulation is the reference's
    assert {layer.sqnr_db for layer in parity.layers} == {None}
    assert not any(layer.noiseless for layer in parity.layers)
    assert parity.notes == ("shifted by one",)
    figures = parity.metrics()
    assert figures["parity/backend_max_off_by"] == 1.0
    assert figures["parity/backend_equal_share"] == pytest.approx(2 / 3)
    assert figures["parity/backend_within_1"] == 1.0


def test_values_without_noise_have_no_ratio(quantized):
    """Zeros are exact at every scale."""
    program = lower(quantized, "float")
    comparison = LayerComparison(program, Reference().compile(program), None, quantized, Classification())
    comparison.update(torch.zeros(2, 4, 5, 5))
    parity = comparison.parity()
    assert [(layer.sqnr_db, layer.noiseless) for layer in parity.layers] == [(None, True)] * 3


def test_without_samples_nothing_was_measured(quantized, tmp_path):
    program = lower(quantized, "float")
    parity = LayerComparison(
        program, Reference().compile(program), None, quantized, Classification()
    ).parity()
    assert (parity.samples, parity.layers[0].sqnr_db, parity.layers[0].noiseless) == (0, None, False)
    parity.save(tmp_path)
    assert Parity.load(tmp_path) == parity


def test_files_hold_what_every_reader_of_json_takes(quantized, tmp_path):
    program = lower(quantized, "float")
    parity = compared(quantized, program, Reference().compile(program))
    parity.save(tmp_path)
    assert Parity.load(tmp_path) == parity

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((tmp_path / "parity.json").read_text(), parse_constant=refuse)
    infinite = replace(parity, layers=(replace(parity.layers[0], sqnr_db=float("inf")),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        infinite.save(tmp_path)


def test_figures_are_those_of_the_worst_layer():
    def layer(name, simulated):
        return LayerParity(
            name=name, op="add", simulated_minus_integer=simulated, reference_minus_backend={}, sqnr_db=1.0
        )

    layers = (layer("a", {0: 3, 1: 1}), layer("b", {0: 9, -4: 1}), layer("c", {0: 2}))
    figures = Parity(layers=layers, samples=4, agreeing=3).metrics()
    assert figures["parity/max_off_by"] == 4.0
    assert figures["parity/worst_equal_share"] == 0.75
    assert figures["parity/backend_same_top1"] == 0.75
