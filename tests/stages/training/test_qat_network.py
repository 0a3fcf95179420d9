"""Quantization-aware training: what is trained is what will be deployed."""

import copy
import functools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import attach_batch_norm, fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.lower import lower
from stages.graph.points import quantization_points, sources
from stages.graph.quantized import QuantizedGraph
from stages.graph.schemes import arranged, resolve_schemes
from stages.graph.simulate import Simulation
from stages.integer.interpreter import Interpreter, dequantize_output, quantize_input
from stages.quant.calibrators.minmax import MinMax
from stages.quant.estimators.dsq import Dsq
from stages.quant.estimators.lsq import Lsq
from stages.quant.estimators.pact import Pact
from stages.quant.estimators.ste import Ste
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.qparams import fake_quantize, quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.apot import AdditivePowersOfTwo
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.codebook import Codebook
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.stochastic import Stochastic
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.weights import weight_qparams
from stages.training.qat_layer import Grids, Phase
from stages.training.qat_network import QatNetwork

SHAPE = (4, 8, 8)
FLOAT = Phase(quantize=False, batch_statistics=True)
TRAINING = Phase(observe=True, batch_statistics=True)
FROZEN = Phase()


class Net(nn.Module):
    """Residual, depthwise and pre-activation BatchNorm, ReLU6, a pool and two linear layers."""

    def __init__(self):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.bn2 = nn.BatchNorm2d(6, affine=False)
        self.shortcut = nn.Conv2d(4, 6, 1)
        self.hidden = nn.Linear(6, 8)
        self.bn3 = nn.BatchNorm1d(8)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn0(x))
        y = F.relu6(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.depthwise(y)) + self.shortcut(x))
        y = F.max_pool2d(y, 2).mean((2, 3))
        return self.classifier(F.relu(self.bn3(self.hidden(y))))


class ResidualNet(nn.Module):
    """Two blocks with identities between a first and a last layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(4, 6, 3, padding=1)
        self.block = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 6, 1)
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.norm(self.block(x)) + x)
        x = F.relu(self.last(x) + x)
        return self.classifier(x.mean((2, 3)))


def apply(layer, x, phase, step=1e-3):
    """A layer alone, on reals in steps so fine that rounding its bias to s_x · s_w changes nothing."""
    one = torch.tensor(1.0)
    return layer(x / step, phase, Grids(input_scale=one * step, input_levels=(-127, 127), output_scale=one))


captured = functools.cache(lambda module: capture(module, SHAPE))


@pytest.fixture(scope="session")
def module():
    torch.manual_seed(0)
    net = Net()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            m.running_mean.uniform_(-1, 1)
            m.running_var.uniform_(0.2, 2)
            if m.affine:
                nn.init.uniform_(m.weight, -2, 2)
                nn.init.uniform_(m.bias, -1, 1)
    return net.eval()


@pytest.fixture
def x():
    return torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(1))


def schemes(bits, affine=False):
    if affine:
        return WeightsAndActivations(weight=Affine(bits=bits, signed=True), activation=Affine(bits=bits))
    return WeightsAndActivations(weight=Symmetric(bits=bits, signed=True), activation=Symmetric(bits=bits))


def calibrated(graph, x, quantizer, granularity):
    folded = arranged(quantizer, fuse(fold_batch_norm(graph)))
    own = resolve_schemes(quantizer, folded)
    points, activations = set(quantization_points(folded)), {}

    def observe(node, value):
        if node.name in points:
            activations[node.name] = own.activations[node.name].qparams(value.min(), value.max())
        return value

    execute(folded, x, observe)
    source = sources(folded)
    weights = {
        name: weight_qparams(
            folded.params[folded[name].params["weight"]],
            folded.param(folded[name], "bias"),
            activations[source[folded[name].inputs[0]]].scale,
            own.weights[name],
            MinMax(),
            granularity,
        )
        for name in own.weights
    }
    return QuantizedGraph(graph=folded, activations=activations, weights=weights)


def network(module, x, estimator, *, bits=4, affine=False, granularity=None, quantizer=None, **settings):
    graph, quantizer = captured(module), quantizer or schemes(bits, affine)
    quantized = calibrated(graph, x, quantizer, granularity or PerChannel())
    return QatNetwork(graph, quantized, quantizer, estimator, **settings)


def train(net, x, steps=5, phase=TRAINING):
    net.train()
    net.phase = phase
    target = torch.arange(len(x)) % 3
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        loss = F.cross_entropy(net(x), target) + net.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


def assert_simulated(net, x, requantize="float"):
    """A trained network gives what its deployed integers give, to the bit; returns its quantized form."""
    quantized = net.quantized()
    program = lower(quantized, requantize)
    with torch.no_grad():
        assert torch.equal(net(x), Simulation(program)(x))
    levels = Interpreter(program).run(quantize_input(program, x.numpy()))
    assert (net(x).detach().numpy() == dequantize_output(program, levels)).all()
    return quantized


def test_names_and_nodes_are_those_of_the_deployed_graph(module):
    graph = captured(module)
    attached, folded = fuse(attach_batch_norm(graph)), fuse(fold_batch_norm(graph))
    assert [(n.name, n.op, n.inputs) for n in attached.nodes] == [
        (n.name, n.op, n.inputs) for n in folded.nodes
    ]
    again = fold_batch_norm(attached)
    assert again.nodes == folded.nodes
    assert all(torch.equal(again.params[key], tensor) for key, tensor in folded.params.items())


@pytest.mark.parametrize("estimator", [Ste(), Pact(), Lsq(), Dsq()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()], ids=["tensor", "channel"])
def test_evaluation_is_the_simulation(module, x, estimator, bits, affine, granularity):
    """After training with moving parts: same levels everywhere, biases rounded to s_x · s_w included."""
    net = train(network(module, x, estimator, bits=bits, affine=affine, granularity=granularity), x).eval()
    assert_simulated(net, x)


@pytest.mark.parametrize("estimator", [Ste(), Pact(), Lsq(), Dsq()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("scheme", [PowerOfTwo, Stochastic])
def test_evaluation_is_the_simulation_for_other_quantizers(module, x, estimator, scheme):
    """Powers of two stay such; chance decides in training, and once for the weights that are deployed."""
    quantizer = WeightsAndActivations(
        weight=scheme(bits=4, signed=True), activation=scheme(bits=4), first_last_bits=8
    )
    net = train(network(module, x, estimator, quantizer=quantizer), x).eval()
    quantized = assert_simulated(net, x)
    assert quantized.weights["classifier"].quant_max == 127
    assert quantized.weights["depthwise"].quant_max == 7
    if scheme is PowerOfTwo:
        scales = [q.scale for q in (*quantized.weights.values(), *quantized.activations.values())]
        assert all((torch.frexp(scale)[0] == 0.5).all() for scale in scales)


@pytest.mark.parametrize("estimator", [Lsq(), Dsq()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("scheme", [Affine, Symmetric, PowerOfTwo, Stochastic])
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()], ids=["tensor", "channel"])
@pytest.mark.parametrize("batch_norm", ["corrected", "naive"])
def test_evaluation_is_the_simulation_where_a_step_outgrew_its_weights(
    module, x, estimator, scheme, granularity, batch_norm
):
    """Such a channel is nothing but its bias, for which alone its scale is then chosen: for both alike."""
    quantizer = WeightsAndActivations(weight=scheme(bits=4, signed=True), activation=Symmetric(bits=8))
    net = network(module, x, estimator, quantizer=quantizer, granularity=granularity, batch_norm=batch_norm)
    with torch.no_grad():
        for layer in net.layers.values():
            layer.quantizer.scale.view(-1)[0] *= 300.0
    quantized = assert_simulated(train(net, x, steps=1, phase=FROZEN).eval(), x)
    if scheme is not Stochastic:  # chance may give a weight a level beside 0
        for name, qparams in quantized.weights.items():
            weight = quantized.integer_weight(quantized.graph[name])
            assert bool((weight[0] == qparams.zero_point.view(-1)[0]).all())


@pytest.mark.parametrize("estimator", [Ste(), Pact(), Lsq(), Dsq()], ids=lambda e: type(e).__name__)
def test_evaluation_is_the_simulation_with_a_residual_stream_of_its_own(x, estimator):
    """Shortcuts keep 8 bits, layers read copies of 2; all of them learn."""
    torch.manual_seed(0)
    module = ResidualNet().eval()
    quantizer = replace(schemes(2), residual_bits=8, first_last_bits=8)
    net = train(network(module, x, estimator, quantizer=quantizer), x).eval()
    quantized = assert_simulated(net, x)
    highest = {name: own.quant_max for name, own in quantized.activations.items()}
    assert {"stem.operand", "block.operand"} < set(highest)
    assert highest["stem.operand"] == highest["block.operand"] == 2
    assert highest["stem"] == highest["block"] == highest["last"] == 254


@pytest.mark.parametrize("requantize", ["fixed_point", "fixed_point_single"])
@pytest.mark.parametrize("scheme", [Affine, PowerOfTwo])
def test_evaluation_is_the_simulation_in_fixed_point(module, x, scheme, requantize):
    """Fixed point rounds otherwise, and training sees it: with powers of two exact halves are common."""
    activation = Affine(bits=8) if scheme is Affine else PowerOfTwo(bits=8)
    quantizer = WeightsAndActivations(weight=scheme(bits=8, signed=True), activation=activation)
    net = network(module, x, Lsq(), quantizer=quantizer, requantize=requantize)
    assert_simulated(train(net, x, phase=TRAINING).eval(), x, requantize)
    net.train().phase = FROZEN
    deployed = net(x)
    assert torch.equal(deployed, net.eval()(x))
    deployed.square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


def test_evaluation_is_the_simulation_with_layers_that_stay_float(module, x):
    quantizer = replace(schemes(4), layers={"conv1": "float", "hidden": "float"})
    graph = captured(module)
    quantized = calibrated(graph, x, quantizer, PerChannel())
    net = train(QatNetwork(graph, quantized, quantizer, Lsq()), x).eval()
    assert {"float_conv2d", "float_linear"} <= {op.op for op in lower(net.quantized(), "float").ops}
    assert_simulated(net, x)


def test_chance_draws_anew_in_each_step_and_again_after_a_resumption(module, x):
    quantizer = WeightsAndActivations(weight=Stochastic(bits=4, signed=True), activation=Stochastic(bits=4))
    net = network(module, x, Ste(), quantizer=quantizer).train()
    outputs = []
    for draw in (1, 2, 1):
        net.phase = Phase(draw=draw)
        outputs.append(net(x))
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A quantizer of whole weights whose levels training cannot move."""

    elementwise: ClassVar[bool] = False
    signed: ClassVar[bool] = True
    bits: int = 4

    def qparams(self, minimum, maximum, ch_axis=None):
        return Codebook(bits=self.bits).qparams(minimum, maximum, ch_axis)

    def levels(self, weight, qparams, name):
        return Codebook(bits=self.bits).levels(weight, qparams, name)


def test_a_quantizer_of_whole_weights_is_refused(module, x):
    quantizer = WeightsAndActivations(weight=Whole(), activation=Symmetric(bits=8))
    with pytest.raises(PipelineError, match=r"Whole chooses levels for a whole weight.*Remedy"):
        network(module, x, Ste(), quantizer=quantizer)


@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()])
def test_a_codebook_trains_what_is_deployed(module, x, granularity):
    quantizer = WeightsAndActivations(weight=Codebook(bits=2), activation=Symmetric(bits=8))
    net = network(module, x, Ste(), quantizer=quantizer, granularity=granularity)
    before = {name: layer.quantizer.centroids.clone() for name, layer in net.layers.items()}
    net = train(net, x).eval()
    quantized = assert_simulated(net, x)
    for name, layer in net.layers.items():
        assert len(quantized.levels[name.replace("/", ".")].unique()) <= 4
        assert not torch.equal(layer.quantizer.centroids, before[name])


def test_pruned_weights_stay_zero_in_training(module, x):
    graph = captured(module)
    key = next(node.params["weight"] for node in graph.nodes if node.op == "conv2d")
    weight = graph.params[key].clone()
    weight.flatten()[::3] = 0.0
    graph = replace(graph.with_params({key: weight}), pruned=frozenset({key}))
    for own in (Symmetric(bits=4, signed=True), Affine(bits=4, signed=True), Codebook(bits=3)):
        quantizer = WeightsAndActivations(weight=own, activation=Symmetric(bits=8))
        net = QatNetwork(graph, calibrated(graph, x, quantizer, PerChannel()), quantizer, Ste())
        quantized = train(net, x).quantized()
        (name,) = (pruned.removesuffix(".weight") for pruned in quantized.graph.pruned)
        zero = quantized.weights[name].broadcast(4)[1].expand(weight.shape)
        levels = quantized.integer_weight(quantized.graph[name])
        assert (levels == zero).flatten()[::3].all() and (levels != zero).any()


@pytest.mark.parametrize("estimator", [Lsq(), Ste()])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_uneven_levels_are_trained_and_deployed(module, x, bits, estimator):
    own = AdditivePowersOfTwo(bits=bits)
    quantizer = WeightsAndActivations(weight=own, activation=Symmetric(bits=8))
    net = train(network(module, x, estimator, quantizer=quantizer), x)
    found = net.eval().quantized()
    for name, levels in found.levels.items():
        assert set(levels.abs().unique().tolist()) <= set(own.magnitudes)
        assert name in found.weights
    assert set(found.levels) == set(found.weights)
    assert_simulated(net, x)
    net.phase = FROZEN
    assert torch.equal(net.train()(x), net.eval()(x))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_frozen_step_trains_what_is_deployed(module, x, bits):
    net = train(network(module, x, Lsq(), bits=bits), x)
    net.phase = FROZEN
    trained = net.train()(x)
    assert torch.equal(trained, net.eval()(x))


def test_before_training_it_is_the_calibrated_network(module, x):
    net = network(module, x, Ste()).eval()
    start = calibrated(captured(module), x, schemes(4), PerChannel())
    with torch.no_grad():
        assert torch.equal(net(x), Simulation(lower(start, "float"))(x))


def test_without_rounding_a_step_is_the_float_network_s(module, x):
    """The delay phase: outputs, gradients and moving statistics are those of the module in training mode.

    In float64: a batch's small variances magnify float32's errors, which differ with the number of threads.
    """
    net = network(module, x, Ste()).train().double()
    net.phase = FLOAT
    reference = copy.deepcopy(module).train().double()
    expected, found = reference(x.double()), net(x.double())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    expected.square().sum().backward()
    found.square().sum().backward()
    for name, layer in (("conv1", reference.conv1), ("depthwise", reference.depthwise)):
        torch.testing.assert_close(net.layers[name].weight.grad, layer.weight.grad, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        net.layers["conv1"].bn_weight.grad, reference.bn1.weight.grad, rtol=1e-6, atol=1e-6
    )
    for name, norm in (
        ("bn0", reference.bn0),
        ("conv1", reference.bn1),
        ("depthwise", reference.bn2),
        ("hidden", reference.bn3),
    ):
        layer = net.layers[name]
        torch.testing.assert_close(layer.bn_mean, norm.running_mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(layer.bn_var, norm.running_var, rtol=1e-6, atol=1e-6)


def whitepaper(conv, norm, x, rounded):
    """Krishnamoorthi 2018, section 3.2.2, as written: round at the moving scale, correct by σ / σ_batch."""
    gamma, beta = norm.weight.reshape(-1, 1, 1, 1), norm.bias
    moving = torch.sqrt(norm.running_var + norm.eps).reshape(-1, 1, 1, 1)
    y = F.conv2d(x, rounded, padding=1)
    # statistics of what the rounded layer gives before γ and the moving σ
    plain = F.conv2d(x, rounded * moving / gamma, padding=1)
    variance, mean = torch.var_mean(plain, dim=(0, 2, 3), correction=0)
    batch = torch.sqrt(variance + norm.eps)
    correction = (moving.flatten() / batch).reshape(1, -1, 1, 1)
    return correction * y + (beta - norm.weight * mean / batch).reshape(1, -1, 1, 1)


def conv_bn():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
    module[1].running_var.uniform_(0.2, 2)
    nn.init.uniform_(module[1].weight, -2, 2)
    nn.init.uniform_(module[1].bias, -1, 1)
    return module.eval()


def straight_through(w, grid):
    scale, zero_point = grid.broadcast(w.ndim)
    low, high = (grid.quant_min - zero_point) * scale, (grid.quant_max - zero_point) * scale
    slack = 1.0 + 1e-6  # the ends themselves are inside
    clamped = torch.minimum(torch.maximum(w, low * slack), high * slack)
    return clamped + (fake_quantize(w, grid) - clamped).detach()


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel()], ids=["tensor", "channel"])
def test_corrected_batch_norm_is_the_whitepaper_s(x, granularity, affine):
    """Per channel, the gain is taken out of the rounding: ``Q(w · g; s · |g|)`` is ``Q(w; s) · g``."""
    module = conv_bn()
    net = network(module, x, Ste(), granularity=granularity, affine=affine)
    layer, (conv, norm) = net.layers["0"], module
    grid = layer.qparams()
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, 1, 1, 1)
    if granularity == PerTensor():
        rounded = straight_through(conv.weight * gain, grid)
    else:
        at_unit_gain = replace(grid, scale=grid.scale / gain.detach().abs().flatten())
        sign = gain.detach().sign()
        rounded = straight_through(conv.weight * sign, at_unit_gain) * sign * gain
    expected = whitepaper(*module, x, rounded)
    found = apply(layer, x, Phase(batch_statistics=True))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    weighted = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * weighted).sum().backward()
    (expected * weighted).sum().backward()
    for role, reference in (("weight", conv.weight), ("bn_weight", norm.weight), ("bn_bias", norm.bias)):
        torch.testing.assert_close(getattr(layer, role).grad, reference.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("affine", [False, True])
def test_levels_of_a_channel_do_not_depend_on_its_gain(x, bits, affine):
    """γ of another size, negative ones among them, another σ: the deployed scale follows, the levels stay."""
    net = network(conv_bn(), x, Lsq(), bits=bits, affine=affine)
    layer = net.layers["0"]

    def levels():
        folded, _ = layer.folded()
        return quantize(folded, layer.qparams()), layer.qparams().scale

    before, scale = levels()
    with torch.no_grad():
        layer.bn_weight.mul_(torch.tensor([4.0, 0.5, 8.0, 2.0, 0.25, 1.0]))
        layer.bn_var.add_(layer.node.attrs["bn_eps"]).mul_(0.25).sub_(layer.node.attrs["bn_eps"])
    after, follows = levels()
    assert torch.equal(after, before)
    torch.testing.assert_close(follows / scale, torch.tensor([8.0, 1.0, 16.0, 4.0, 0.5, 2.0]))


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_gradient_of_a_gain_is_that_of_the_rounded_layer_s(x, batch_statistics):
    """Against a float layer that holds the rounded weight: γ and β learn as if it were the weight."""
    module = conv_bn()
    net = network(module, x, Lsq(), bits=2)
    layer, reference = net.layers["0"], copy.deepcopy(module).train(batch_statistics)
    gain = layer.bn_weight.detach() / torch.sqrt(layer.bn_var + layer.node.attrs["bn_eps"])
    with torch.no_grad():
        deployed = fake_quantize(layer.folded()[0], layer.qparams())
        reference[0].weight.copy_(deployed / gain.reshape(-1, 1, 1, 1))
    found = apply(layer, x, Phase(batch_statistics=batch_statistics), 1e-6)
    expected = reference(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(layer.bn_weight.grad, reference[1].weight.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer.bn_bias.grad, reference[1].bias.grad, rtol=1e-3, atol=1e-3)


def test_ranges_are_observed_as_they_are_rounded(x):
    """Before rounding begins, with moving statistics too: of the weight before folding."""
    net = network(conv_bn(), x, Ste())
    layer = net.layers["0"]
    for batch_statistics in (False, True):
        layer.quantizer.maximum.zero_()
        apply(layer, x, Phase(quantize=False, observe=True, batch_statistics=batch_statistics))
        signed = layer.weight * layer.bn_weight.sign().reshape(-1, 1, 1, 1)
        torch.testing.assert_close(layer.quantizer.maximum, signed.flatten(1).amax(1))


def test_naive_folding_rounds_at_the_batch_s_scale(x):
    module = conv_bn()
    net = network(module, x, Ste(), batch_norm="naive")
    layer = net.layers["0"]
    grid = layer.qparams()
    found = apply(layer, x, Phase(batch_statistics=True))
    conv, norm = module
    plain = conv(x)
    variance, mean = torch.var_mean(plain, dim=(0, 2, 3), correction=0)
    gain = norm.weight / torch.sqrt(variance + norm.eps)
    rounded = fake_quantize(conv.weight * gain.reshape(-1, 1, 1, 1), grid)
    expected = F.conv2d(x, rounded, norm.bias - mean * gain, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)
    norm.train()(plain)
    torch.testing.assert_close(layer.bn_mean, norm.running_mean)
    torch.testing.assert_close(layer.bn_var, norm.running_var)


def test_moving_statistics_rest_in_frozen_phases(module, x):
    net = network(module, x, Lsq())
    before = {
        key: value.clone() for key, value in net.state_dict().items() if "bn_mean" in key or "bn_var" in key
    }
    train(net, x, phase=FROZEN)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
    train(net, x, steps=1)
    assert not any(torch.equal(net.state_dict()[key], value) for key, value in before.items())


def test_a_channel_without_gain_stays_finite(x):
    module = conv_bn()
    module[1].weight.data[0] = 0.0
    net = train(network(module, x, Ste()), x, steps=0)
    y = net(x)
    y[:, :3].square().sum().backward()
    assert torch.isfinite(y).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())
    assert_simulated(net.eval(), x)


@pytest.mark.parametrize("estimator", [Ste(), Pact(), Lsq(), Dsq()], ids=lambda e: type(e).__name__)
def test_training_lowers_the_loss(module, x, estimator):
    net = network(module, x, estimator, bits=3)
    target = torch.arange(len(x)) % 3

    def loss():
        with torch.no_grad():
            return float(F.cross_entropy(net.eval()(x), target))

    before = loss()
    train(net, x, steps=60, phase=Phase(observe=True))
    assert loss() < 0.8 * before


def test_another_calibrated_network_is_refused(module, x):
    graph, quantizer = captured(module), schemes(4)
    quantized = calibrated(graph, x, quantizer, PerChannel())
    changed = {key: 1.01 * tensor for key, tensor in quantized.graph.params.items()}
    other = QuantizedGraph(
        graph=quantized.graph.with_params(changed),
        activations=quantized.activations,
        weights=quantized.weights,
    )
    with pytest.raises(
        PipelineError, match=r"differs from the trained one, at .*Remedy: leave out corrections"
    ):
        QatNetwork(graph, other, quantizer, Ste())
