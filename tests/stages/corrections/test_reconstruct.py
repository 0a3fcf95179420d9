"""Reconstruction: no block gets worse, what is learned is what quantizers can have, and is deployed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corrections.lockstep import Lockstep
from stages.corrections.reconstruct import Reconstruction, block_errors
from stages.corrections.soft_block import SoftBlock, _Round, mixed
from stages.graph.blocks import blocks
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.graph.simulate import Simulation, simulation_of
from stages.integer.interpreter import Interpreter
from stages.quant.estimators.base import Levels
from stages.quant.estimators.scheme import start_of
from stages.quant.qparams import QParams, fake_quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.symmetric import Symmetric

QUICK = Reconstruction(iterations=60, batch_size=16, learning_rate=0.2, scale_learning_rate=0.01)


def images(count, seed):
    """Smooth images: pixels that agree are what nearest rounding takes no account of."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 2, 2, 2, generator=generator)
    noise = torch.randn(count, 2, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear") + 0.1 * noise + 0.5


@pytest.fixture(scope="module")
def seen():
    return images(64, 1)


def few_bits(quantized, samples, scheme):
    """The network with values of few bits, all but the output's."""
    values = {}
    execute(quantized.graph, samples, lambda node, value: values.setdefault(node.name, value))
    own = {quantized.graph.output: Symmetric(bits=8)}
    activations = {
        name: own.get(name, scheme).qparams(values[name].min(), values[name].max())
        for name in quantized.activations
    }
    return replace(quantized, activations=activations)


def starts_of(quantized, scheme):
    usual = {quantized.graph.output: Symmetric(bits=8)}
    return {name: start_of(q, usual.get(name, scheme)) for name, q in quantized.activations.items()}


def corrected(quantized, samples, starts, folder, how=QUICK, seed=0, largest=12):
    """The corrected network, and by block its errors before and after."""
    errors = []

    def correct(before, block):
        after, relative = how.reconstruct(before, block, starts, np.random.default_rng(seed))
        errors.append((block_errors(before, block, 64), block_errors(after, block, 64), relative))
        return after

    lockstep = Lockstep(batch_size=16, memory=4, folder=folder)
    return lockstep.correct_blocks(quantized, samples, blocks(quantized.graph, largest), correct), errors


def noise(quantized, samples):
    with torch.no_grad():
        y = execute(quantized.graph, samples)
        return float((simulation_of(quantized)(samples) - y).square().sum())


@pytest.mark.parametrize("scheme", [Symmetric(bits=3), Affine(bits=3), PowerOfTwo(bits=4)])
def test_outputs_come_closer_on_samples_that_were_not_seen(quantized, seen, tmp_path, scheme):
    plain = few_bits(quantized, seen, scheme)
    unseen = images(200, 9)
    found, errors = corrected(plain, seen, starts_of(plain, scheme), tmp_path)
    assert noise(found, unseen) < 0.9 * noise(plain, unseen)
    assert len(errors) == len(blocks(plain.graph, 12))
    for before, after, relative in errors:
        assert relative == pytest.approx(np.mean([after[name] / before[name] for name in before]))
        assert relative <= 1.0
    assert found.graph is plain.graph


@pytest.mark.parametrize("requantize", ["float", "fixed_point"])
def test_the_program_computes_what_was_learned(quantized, seen, tmp_path, requantize):
    plain = few_bits(quantized, seen, Affine(bits=4))
    found, _ = corrected(plain, seen, starts_of(plain, Affine(bits=4)), tmp_path)
    program = lower(found, requantize)
    levels = Simulation(program).trace(seen)
    integers = Interpreter(program).trace(levels[program.input])
    assert all(np.array_equal(integers[name], own) for name, own in levels.items())
    for op in program.ops:
        if op.output in found.levels:
            assert np.array_equal(op.tensors["weight"], found.levels[op.output].numpy())
            bias = found.integer_bias(found.graph[op.output])
            assert bias is None or np.array_equal(op.tensors["bias"], bias.numpy())


def test_scales_are_the_quantizers(quantized, seen, tmp_path):
    plain = few_bits(quantized, seen, PowerOfTwo(bits=4))
    fast = replace(QUICK, scale_learning_rate=0.2)
    found, _ = corrected(plain, seen, starts_of(plain, PowerOfTwo(bits=4)), tmp_path, fast)
    own = {name: q for name, q in found.activations.items() if name != found.graph.output}
    assert all(float(torch.frexp(q.scale).mantissa) == 0.5 for q in own.values())
    levels = [(q.quant_min, q.quant_max, int(q.zero_point)) for q in found.activations.values()]
    assert levels == [(q.quant_min, q.quant_max, int(q.zero_point)) for q in plain.activations.values()]


def test_a_rate_of_zero_and_missing_starts_leave_scales_as_calibrated(quantized, seen, tmp_path):
    plain = few_bits(quantized, seen, Symmetric(bits=4))
    starts = starts_of(plain, Symmetric(bits=4))
    for own, how in ((starts, replace(QUICK, scale_learning_rate=0.0)), ({}, QUICK)):
        found, _ = corrected(plain, seen, own, tmp_path, how)
        assert found.activations == plain.activations
        assert found.levels


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.floats(0.0, 0.9), st.sampled_from([0.001, 10.0]))
def test_no_block_gets_worse(quantized, seen, tmp_path_factory, seed, drop, rate):
    how = replace(QUICK, iterations=3, drop=drop, learning_rate=rate, scale_learning_rate=rate)
    plain = few_bits(quantized, seen, Symmetric(bits=3))
    starts = starts_of(plain, Symmetric(bits=3))
    _, errors = corrected(plain, seen, starts, tmp_path_factory.mktemp("values"), how, seed)
    for before, after, relative in errors:
        assert relative <= 1.0
        assert sum(after[name] / before[name] for name in before) <= len(before) * (1.0 + 1e-9)


def test_the_same_seed_gives_the_same_network(quantized, seen, tmp_path):
    plain = few_bits(quantized, seen, Symmetric(bits=4))
    starts = starts_of(plain, Symmetric(bits=4))
    first, second, other = (
        corrected(plain, seen, starts, tmp_path, replace(QUICK, iterations=10), seed)[0] for seed in (1, 1, 2)
    )
    assert all(torch.equal(levels, second.levels[name]) for name, levels in first.levels.items())
    assert all(torch.equal(q.scale, second.activations[n].scale) for n, q in first.activations.items())
    assert any(not torch.equal(q.scale, other.activations[n].scale) for n, q in first.activations.items())


def test_pruned_weights_stay_zero(quantized, seen, tmp_path):
    graph = quantized.graph
    pruned = {
        key: torch.where(p.abs() < p.abs().median(), 0.0, p) if p.ndim > 1 else p
        for key, p in graph.params.items()
    }
    plain = replace(quantized, graph=graph.with_params(pruned))
    found, _ = corrected(plain, seen, {}, tmp_path, replace(QUICK, learning_rate=1.0))
    for name, levels in found.levels.items():
        zeros = pruned[graph[name].params["weight"]] == 0.0
        assert int(zeros.sum()) >= zeros.numel() // 3
        assert not levels[zeros].any()


def test_what_is_float_or_chosen_is_left_alone(quantized, seen, tmp_path):
    first, second, third, last = quantized.weights
    chosen = torch.ones_like(quantized.graph.params[quantized.graph[last].params["weight"]], dtype=torch.int8)
    weights = {name: q for name, q in quantized.weights.items() if name != second}
    plain = replace(quantized, weights=weights, levels={last: chosen})
    found, _ = corrected(plain, seen, starts_of(plain, Symmetric(bits=8)), tmp_path)
    assert set(found.levels) == {first, third, last}
    assert torch.equal(found.levels[last], chosen)


def test_float_activations_leave_weights_to_round(quantized, seen, tmp_path):
    plain = replace(quantized, activations={})
    found, _ = corrected(plain, seen, {}, tmp_path)
    assert found.levels
    assert not found.activations
    assert noise(found, images(200, 9)) < 0.8 * noise(plain, images(200, 9))


def test_a_scale_stays_where_biases_of_its_readers_fit(quantized, seen, tmp_path):
    """Learning would halve the scale at once; the bias of 2^29 steps allows no less than it is."""
    graph = quantized.graph
    layer = graph["expand"]
    source = layer.inputs[0]
    step = float(quantized.activations[source].scale) * float(quantized.weights["expand"].scale.max())
    biases = {"expand": torch.full((8,), 2.0**29 * step)}
    plain = replace(quantized, biases=biases)
    block = next(part for part in blocks(graph, 1) if part[-1].name == source)
    soft = SoftBlock(plain, block, starts_of(plain, Symmetric(bits=8)))
    for theta in soft.log_scales():
        with torch.no_grad():
            theta.fill_(-3.0)
    soft.bound()
    found = soft.result()
    assert int(found.integer_bias(layer).abs().max()) <= 2**30
    assert float(found.activations[source].scale) >= 0.99 * float(plain.activations[source].scale)


def test_a_share_is_left_unrounded():
    chance = np.random.default_rng(0)
    simulated, floats = torch.ones(100, 100), torch.zeros(100, 100)
    assert torch.equal(mixed(simulated, floats, 0.0, chance), simulated)
    for drop in (0.25, 0.5):
        values = mixed(simulated, floats, drop, chance)
        assert set(values.unique().tolist()) == {0.0, 1.0}
        assert float(values.mean()) == pytest.approx(1.0 - drop, abs=0.02)


def test_gradients_are_those_of_learned_steps(quantized):
    """``∂y/∂s = round(v) − v`` inside, the end outside; ``∂y/∂x`` passes inside alone."""
    qparams = QParams(scale=torch.tensor(0.5), zero_point=torch.tensor(0), quant_min=0, quant_max=6)
    x = torch.tensor([-1.0, 0.6, 2.9, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    y = _Round.apply(x, scale, Levels.of(qparams, 0), None)
    assert torch.equal(y, fake_quantize(x.detach(), qparams))
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert float(scale.grad) == pytest.approx(0.0 + (1.0 - 1.2) + (6.0 - 5.8) + 6.0, abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"iterations": 0}, "iterations=0: must be at least 1"),
        ({"regularization": 0.0}, "regularization=0.0: must be positive"),
        ({"scale_learning_rate": -1.0}, "scale_learning_rate=-1.0: must not be negative"),
        ({"drop": 1.0}, r"drop=1.0: must be a share, in \[0, 1\)"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Reconstruction(**wrong)
