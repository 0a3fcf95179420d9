"""The program computes what real arithmetic over its grids does, operator by operator."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.execute import execute, pre_activation
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.lower import lower
from stages.graph.operators.registry import output_shape
from stages.graph.points import layers, quantization_points, sources
from stages.graph.quantized import QuantizedGraph
from stages.graph.ratios import MAX_HEADROOM
from stages.graph.residual import with_copies
from stages.integer.interpreter import Interpreter, quantize_input
from stages.integer.validate import validate
from stages.quant.calibrators.minmax import MinMax
from stages.quant.estimators.base import representable
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_group import PerGroup
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.qparams import dequantize, fake_quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics
from stages.quant.weights import weight_qparams

SHAPE = (3, 8, 8)


class Everything(nn.Module):
    """Every operator of convolutional networks, once at least; others are in test_lower_computed.py."""

    def __init__(self, groups=1, stride=1, activation=F.relu):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, stride=stride)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=groups, bias=False)
        self.conv3 = nn.Conv2d(8, 8, 1)
        self.bn_alone = nn.BatchNorm2d(16)
        self.fc1, self.fc2 = nn.Linear(16, 12), nn.Linear(12, 12)
        self.activation = activation

    def forward(self, x):
        x = self.activation(self.bn1(self.conv1(x)))
        y = self.activation(self.conv2(x) + x)
        z = F.max_pool2d(self.conv3(y), 3, 1, 1)
        a = F.pad(z[:, ::2], (0, 0, 0, 0, 2, 2)) + F.avg_pool2d(y, 3, 1, 1)
        x = F.relu6(self.bn_alone(torch.cat([a, y], 1)))
        x = x.mean((2, 3))
        x = self.fc1(x)
        return self.fc2(F.relu(x)) + x


@cache
def captured(groups=1, stride=1, activation=F.relu):
    """The export takes seconds; random networks are this one with other parameters."""
    return capture(Everything(groups, stride, activation), SHAPE)


def randomized(graph, generator):
    """The same nodes with parameters and statistics drawn anew."""
    params = {}
    for key, tensor in graph.params.items():
        if key.endswith("running_var"):
            params[key] = 0.2 + torch.rand(tensor.shape, generator=generator)
        elif tensor.is_floating_point():
            fan_in = max(tensor[0].numel(), 1) if tensor.ndim > 1 else 1
            params[key] = torch.randn(tensor.shape, generator=generator) / fan_in**0.5
    return graph.with_params(params)


def quantized(graph, seed, weight=None, activation=None, granularity=None, arrange=lambda graph: graph):
    """Random parameters, calibrated by min/max on random samples."""
    generator = torch.Generator().manual_seed(seed)
    graph = arrange(fuse(fold_batch_norm(randomized(graph, generator))))
    return calibrated(graph, torch.randn(16, *SHAPE, generator=generator), weight, activation, granularity)


def calibrated(graph, x, weight=None, activation=None, granularity=None):
    """A folded, fused network as it is, calibrated by min/max on `x`."""
    statistics = {name: Statistics() for name in quantization_points(graph)}

    def record(node, value):
        if node.name in statistics:
            statistics[node.name].update(PerTensor().to_observations(value))
        return value

    with torch.no_grad():
        execute(graph, x, record)
    activation = activation or Symmetric(bits=8)
    weight, granularity = weight or Symmetric(bits=8, signed=True), granularity or PerChannel()
    activations = {
        name: activation.qparams(*MinMax().range(s, activation.qparams)) for name, s in statistics.items()
    }
    weights = {}
    for name in layers(graph):
        node = graph[name]
        scale = activations[sources(graph)[node.inputs[0]]].scale
        tensor, bias = graph.params[node.params["weight"]], graph.param(node, "bias")
        weights[name] = weight_qparams(tensor, bias, scale, weight, MinMax(), granularity)
    return QuantizedGraph(graph=graph, activations=activations, weights=weights), x


def to_levels(value, qparams):
    """A value on a grid as the integers it stands for."""
    return torch.round(value / qparams.scale).add_(qparams.zero_point).to(qparams.dtype).numpy()


def differences(model, x, requantize):
    """Per quantization point, rounded real value − integer level, and how far it lay from a tie, in levels.

    Each layer works on the integers' own inputs: else one value that falls on the other side of a tie would
    show in all layers after it.
    """
    program = lower(model, requantize)
    validate(program)
    integers = Interpreter(program).trace(quantize_input(program, x.numpy()))
    found = {}

    def compare(node, value):
        if node.name not in model.activations:
            return value
        rounded = fake_quantize(value, model.activations[node.name])
        levels = to_levels(rounded, model.activations[node.name]).astype(int)
        unrounded = (value / model.activations[node.name].scale).numpy()
        from_tie = np.abs(unrounded - np.floor(unrounded) - 0.5)
        found[node.name] = levels - integers[node.name].astype(int), from_tie
        return dequantize(torch.from_numpy(integers[node.name]), model.activations[node.name])

    def layer(node, *operands):
        return pre_activation(node, *model.layer_params(node), *operands)

    with torch.no_grad():
        execute(model.graph, x, compare, layer)
    return found


schemes = st.builds(
    lambda affine, weight_bits, activation_bits, granularity: {
        "weight": Affine(bits=weight_bits, signed=True)
        if affine
        else Symmetric(bits=weight_bits, signed=True),
        "activation": Affine(bits=activation_bits) if affine else Symmetric(bits=activation_bits),
        "granularity": granularity,
    },
    st.booleans(),
    st.integers(2, 8),
    st.integers(2, 8),
    st.sampled_from([PerTensor(), PerChannel(), PerGroup(group_size=4), PerGroup(group_size=1)]),
)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scheme=schemes,
    form=st.sampled_from([(1, 1, F.relu), (2, 2, F.relu6), (8, 1, F.hardtanh)]),
)
def test_float_rounding_gives_the_real_value_rounded(seed, scheme, form):
    """real == integer at every layer, but for values that float32 cannot tell from a tie."""
    model, x = quantized(captured(*form), seed, **scheme)
    for name, (difference, from_tie) in differences(model, x, "float").items():
        assert np.abs(difference).max() <= 1, name
        assert (from_tie[difference != 0] < 1e-4).all(), name


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), scheme=schemes)
def test_single_rounding_gives_the_real_value_rounded(seed, scheme):
    """real == integer, but for near-ties, and for sums within their terms' own roundings of a tie."""
    model, x = quantized(captured(), seed, **scheme)
    terms = {
        op.output: (len(op.inputs) + op.attrs.get("groups", 1) if op.op != "add" else len(op.inputs))
        * 2.0 ** -(op.attrs["headroom"] + 1)
        for op in lower(model, "fixed_point_single").ops
        if "headroom" in op.attrs
    }
    for name, (difference, from_tie) in differences(model, x, "fixed_point_single").items():
        assert np.abs(difference).max() <= 1, name
        assert (from_tie[difference != 0] < 1e-4 + terms.get(name, 0.0)).all(), name


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), scheme=schemes)
def test_fixed_point_rounding_stays_within_a_level_of_each_layer(seed, scheme):
    """The double rounding of fixed point moves a value by one level at the most."""
    model, x = quantized(captured(), seed, **scheme)
    for name, (difference, from_tie) in differences(model, x, "fixed_point").items():
        assert np.abs(difference).max() <= 1, name
        assert (from_tie[difference != 0] < 0.25).all(), name


def test_every_operator_of_the_network_is_lowered():
    model, _ = quantized(captured(), 0)
    lowered = {op.op for op in lower(model, "float").ops}
    expected = "conv2d linear add concat avg_pool2d max_pool2d pad slice reshape requantize"
    assert lowered == set(expected.split())


def test_float_functions_give_the_shapes_that_were_traced():
    graph = fuse(fold_batch_norm(captured()))
    for node in graph.nodes[1:]:
        assert output_shape(graph, node, [graph[name].shape for name in node.inputs]) == node.shape, node.name


def test_a_clamp_of_its_own_requantizes():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            y = self.conv(x)
            return torch.cat([y, F.relu(y)], 1)

    model, x = quantized(capture(Two(), SHAPE), 0)
    assert [op.op for op in lower(model, "float").ops] == ["conv2d", "requantize", "concat"]
    assert all(np.abs(d).max() <= 1 for d, _ in differences(model, x, "float").values())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), bits=st.integers(2, 8))
def test_copies_of_the_residual_stream_are_real_values_rounded(seed, bits):
    model, x = quantized(captured(), seed, arrange=lambda graph: with_copies(graph, 4))
    own = Symmetric(bits=bits)
    narrow = {
        name: own.qparams(*representable(qparams)) if name.endswith(".operand") else qparams
        for name, qparams in model.activations.items()
    }
    model = replace(model, activations=narrow)
    assert sum(name.endswith(".operand") for name in narrow) == 2
    for name, (difference, from_tie) in differences(model, x, "float").items():
        assert (from_tie[difference != 0] < 1e-4).all(), name


@pytest.mark.parametrize("quantizer", [Symmetric(bits=8), Affine(bits=8)])
def test_bounds_of_relu6_are_levels_of_the_output(quantizer):
    model, _ = quantized(captured(activation=F.relu6), 0, activation=quantizer)
    program = lower(model, "float")
    op = next(op for op in program.ops if op.output == "conv1")
    value = program.values["conv1"]
    assert op.attrs["act_min"] == value.zero_point
    assert op.attrs["act_max"] == min(round(6.0 / value.scale) + value.zero_point, value.quant_max)


def test_headroom_leaves_room_for_the_worst_sum():
    model, _ = quantized(captured(), 0)
    program = lower(model, "fixed_point")
    for op in program.ops:
        if "headroom" in op.attrs:
            assert 0 <= op.attrs["headroom"] <= MAX_HEADROOM


def test_a_sum_that_cannot_fit_is_refused_naming_the_layer():
    class Outlier(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(x) + x

    model, _ = quantized(capture(Outlier(), SHAPE), 0)
    point = model.activations["conv"]
    object.__setattr__(point, "scale", point.scale * 1e-9)
    with pytest.raises(PipelineError, match=r"'conv': a sum can reach .* overflows int32.*Remedy"):
        lower(model, "fixed_point")


def test_a_ratio_that_no_multiplier_expresses_is_refused_naming_the_layer():
    model, _ = quantized(captured(), 0)
    point = model.activations["conv3"]
    object.__setattr__(point, "scale", point.scale * 1e-13)
    with pytest.raises(PipelineError, match=r"'conv3': ratio .*: must be below 2\^30"):
        lower(model, "float")


def test_groups_of_input_channels_are_accumulated_apart():
    """Linear layers and 1×1 convolutions over all channels; neighbours and depthwise stay per channel."""
    model, _ = quantized(captured(), seed=0, granularity=PerGroup(group_size=4))
    ops = {op.output: op for op in lower(model, "float").ops}
    assert {name for name, op in ops.items() if op.op.startswith("group_")} == {"conv3", "fc1", "fc2"}
    assert ops["conv3"].tensors["weight"].shape == (16, 4, 1, 1) and ops["conv3"].attrs["groups"] == 2
    assert ops["fc2"].tensors["weight"].shape == (36, 4)
    assert model.weights["conv2"].scale.shape == (8,)


def test_groups_within_a_grouped_convolution_are_refused():
    model, _ = quantized(captured(), seed=0, granularity=PerGroup(group_size=4))
    nodes = [
        replace(node, attrs={**node.attrs, "groups": 2}) if node.name == "conv3" else node
        for node in model.graph.nodes
    ]
    grouped = replace(model, graph=replace(model.graph, nodes=tuple(nodes)))
    with pytest.raises(
        PipelineError, match=r"'conv3': a grouped convolution .* has no kernel\. Remedy: gran"
    ):
        lower(grouped, "float")


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(), PerGroup(group_size=4)])
def test_powers_of_two_requantize_by_shifts(granularity):
    """All of a layer's or a sum's ratios are 2^n: their multiplier is one half, or 0 for what vanishes."""
    schemes = {"weight": PowerOfTwo(signed=True), "activation": PowerOfTwo()}
    model, _ = quantized(captured(), seed=0, granularity=granularity, **schemes)
    for op in lower(model, "fixed_point").ops:
        ratios = [tensor for name, tensor in op.tensors.items() if name.endswith("multiplier")]
        if op.op != "avg_pool2d":  # divides by its count
            assert all(set(ratio.tolist()) <= {0, 2**30} for ratio in ratios), op.output
