"""Bias correction: every channel's mean before the activation is the float network's."""

import pytest
import torch

from stages.corrections.bias import correct_bias, mean_pre_activation
from stages.corrections.lockstep import Lockstep
from stages.graph.execute import execute, pre_activation
from stages.graph.ir import Node
from stages.graph.points import layers
from stages.quant.weights import MAX_BIAS


@pytest.fixture(scope="module")
def corrected(quantized, samples, tmp_path_factory):
    """The network with all biases corrected, and the inputs of each layer."""
    inputs = {}

    def correct(quantized, layer):
        inputs[layer.node.name] = layer
        return correct_bias(quantized, layer, batch_size=16)

    lockstep = Lockstep(batch_size=16, memory=100, folder=tmp_path_factory.mktemp("values"))
    with torch.no_grad():
        return lockstep.correct(quantized, samples, correct), inputs


def error_of_means(quantized, layer, bias):
    """``|E[y_float] − E[y_simulated]|`` by channel, with the given bias."""
    node, graph = layer.node, quantized.graph
    floats = mean_pre_activation(
        node, graph.params[node.params["weight"]], graph.param(node, "bias"), layer.floats, 16
    )
    weight = quantized.layer_params(node)[0]
    return (floats - mean_pre_activation(node, weight, bias, layer.simulated, 16)).abs()


@pytest.mark.parametrize("rows", [(), (3,), (2, 3)])
def test_the_mean_of_a_linear_layer_is_over_all_its_vectors(rows):
    node = Node(name="l", op="linear", shape=(*rows, 4))
    x, weight, bias = torch.randn(10, *rows, 6), torch.randn(4, 6), torch.randn(4)
    expected = (x @ weight.T + bias).double().reshape(-1, 4).mean(0)
    torch.testing.assert_close(
        mean_pre_activation(node, weight, bias, (x,), 3), expected, rtol=1e-5, atol=1e-5
    )


def test_means_are_equal_to_1e_5_and_to_half_a_step_once_the_bias_is_rounded(quantized, corrected):
    result, inputs = corrected
    assert set(result.biases) == set(layers(quantized.graph))
    for name, layer in inputs.items():
        step = result.qparams(layer.node.inputs[0]).scale * result.weights[name].scale
        assert (error_of_means(result, layer, result.biases[name]) < 1e-5).all()
        rounded = result.layer_params(layer.node)[1]
        assert (error_of_means(result, layer, rounded) < step / 2 + 1e-5).all()


def test_without_correction_means_differ(quantized, corrected):
    layer = corrected[1]["fc"]
    before = error_of_means(quantized, layer, quantized.layer_params(layer.node)[1])
    assert before.max() > 1e-2


def test_the_float_network_is_left_as_it_is(quantized, corrected, samples):
    assert corrected[0].graph is quantized.graph
    assert torch.equal(execute(corrected[0].graph, samples), execute(quantized.graph, samples))


def test_a_layer_without_bias_is_given_one(quantized, corrected):
    result, inputs = corrected
    assert quantized.integer_bias(inputs["stem"].node) is None
    assert result.integer_bias(inputs["stem"].node).shape == (8,)


def test_the_mean_does_not_depend_on_batches(quantized, corrected):
    layer = corrected[1]["expand"]
    weight, bias = quantized.layer_params(layer.node)
    whole = pre_activation(layer.node, weight, bias, *layer.floats).double().mean(dim=(0, 2, 3))
    for batch_size in (1, 7, 1000):
        found = mean_pre_activation(layer.node, weight, bias, layer.floats, batch_size)
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)


def test_a_bias_never_leaves_int32(quantized, corrected):
    """The weight's scale is so small that the shift needs more than 2^30 steps."""
    layer = corrected[1]["fc"]
    qparams = quantized.weights["fc"]
    tiny = type(qparams)(
        scale=qparams.scale * 1e-9,
        zero_point=qparams.zero_point,
        quant_min=qparams.quant_min,
        quant_max=qparams.quant_max,
        ch_axis=0,
    )
    levels = torch.zeros(5, 32, dtype=torch.int8)
    narrow = type(quantized)(
        graph=quantized.graph.with_params({"fc.bias": torch.zeros(5)}),
        activations=quantized.activations,
        weights={**quantized.weights, "fc": tiny},
        levels={"fc": levels},
    )
    bias = correct_bias(narrow, layer).integer_bias(layer.node)
    assert MAX_BIAS - 2**12 < int(bias.abs().max()) <= MAX_BIAS
