"""Layer by layer, corrections see exactly what the float network and the simulation compute."""

from dataclasses import replace

import pytest
import torch

from stages.corrections.lockstep import Lockstep
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.graph.points import layers
from stages.graph.simulate import Simulation


def seen(quantized, samples, correct=lambda quantized, inputs: quantized, **options):
    """The corrected network, and by layer the inputs that a correction is called with."""
    calls = {}

    def watch(quantized, inputs):
        calls[inputs.node.name] = [
            [t.clone() for t in operands] for operands in (inputs.floats, inputs.simulated)
        ]
        return correct(quantized, inputs)

    with torch.no_grad():
        return Lockstep(**options).correct(quantized, samples, watch), calls


def values_of(run, samples):
    values = {}
    with torch.no_grad():
        run(samples, lambda node, value: values.setdefault(node.name, value))
    return values


def simulated_values(quantized, samples):
    """What the program's integers stand for, by name."""
    levels = Simulation(lower(quantized, "float")).centred(samples)
    return {name: c * quantized.qparams(name).scale for name, c in levels.items()}


@pytest.mark.parametrize(("batch_size", "memory"), [(64, 100), (7, 100), (64, 0)])
def test_inputs_are_those_of_float_and_simulation(quantized, samples, batch_size, memory, tmp_path):
    result, calls = seen(quantized, samples, batch_size=batch_size, memory=memory, folder=tmp_path)
    assert result is quantized
    assert list(calls) == list(layers(quantized.graph))
    expected = [
        values_of(lambda x, hook: execute(quantized.graph, x, hook), samples),
        simulated_values(quantized, samples),
    ]
    for name, forms in calls.items():
        for operands, values in zip(forms, expected, strict=True):
            reads = quantized.graph[name].inputs
            assert len(operands) == len(reads)
            for operand, read in zip(operands, reads, strict=True):
                torch.testing.assert_close(operand, values[read], rtol=1e-4, atol=1e-5)


def test_a_correction_shows_in_the_simulated_inputs_of_later_layers_only(quantized, samples, tmp_path):
    first, second, *_ = layers(quantized.graph)

    def shift(quantized, inputs):
        if inputs.node.name != first:
            return quantized
        return replace(quantized, biases={first: torch.full((8,), 0.5)})

    options = {"batch_size": 64, "memory": 10, "folder": tmp_path}
    result, after = seen(quantized, samples, shift, **options)
    _, before = seen(quantized, samples, **options)
    assert torch.equal(after[second][0][0], before[second][0][0])
    assert after[second][1][0].mean() > before[second][1][0].mean()
    assert torch.equal(after[second][1][0], simulated_values(result, samples)[first])


def test_float_layers_are_passed_over(quantized, samples, tmp_path):
    first = layers(quantized.graph)[0]
    kept = replace(quantized, weights={k: q for k, q in quantized.weights.items() if k != first})
    _, calls = seen(kept, samples, batch_size=64, memory=10, folder=tmp_path)
    assert first not in calls
    assert len(calls) == 3
