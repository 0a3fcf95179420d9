"""Quantized training does with a module what training in float does: dropout, momentum, frozen, tied."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.data.batches import channels_last
from stages.graph.capture import capture
from stages.graph.lower import lower
from stages.graph.simulate import Simulation
from stages.quant.estimators.dsq import Dsq
from stages.quant.estimators.lsq import Lsq
from stages.quant.estimators.pact import Pact
from stages.quant.estimators.ste import Ste
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.stochastic import Stochastic
from stages.quant.quantizers.symmetric import Symmetric
from stages.training.objective import decayed_apart
from stages.training.qat_layer import Phase
from stages.training.qat_network import QatNetwork
from tests.stages.training.test_qat_network import SHAPE, calibrated, schemes, train

FLOAT = Phase(quantize=False, batch_statistics=True)
FROZEN = Phase()
ESTIMATORS = pytest.mark.parametrize(
    "estimator", [Ste(), Pact(), Lsq(), Dsq()], ids=lambda estimator: type(estimator).__name__
)


@pytest.fixture
def x():
    return torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(1))


def network(module, x, estimator=None, quantizer=None, granularity=None, **settings):
    torch.manual_seed(0)
    graph, quantizer = capture(module, SHAPE), quantizer or schemes(8)
    quantized = calibrated(graph, x, quantizer, granularity or PerTensor())
    return QatNetwork(graph, quantized, quantizer, estimator or Ste(), **settings)


def seeded(call, *arguments):
    torch.manual_seed(7)
    return call(*arguments)


class Dropping(nn.Module):
    """Dropout before a layer, of channels, before a residual is added, and functional."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.channels, self.branch = nn.Dropout2d(0.3), nn.Dropout(0.75)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.channels(F.relu(self.a(x)))
        x = F.relu(self.branch(self.b(x)) + x)
        return self.fc(F.dropout(x.mean((2, 3)), 0.5, self.training))


def test_dropout_drops_what_the_module_drops(x):
    """By the same random numbers, in the same places: a float step is the module's own."""
    torch.manual_seed(0)
    module = Dropping().eval()
    net = network(module, x).train()
    net.phase = FLOAT
    x = channels_last(x)  # torch draws in the order of memory
    torch.testing.assert_close(seeded(net, x), seeded(module.train(), x), rtol=1e-5, atol=1e-6)
    assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize("requantize", ["float", "fixed_point"])
@pytest.mark.parametrize("function", [nn.ReLU(), nn.GELU()])
def test_dropout_scales_rounded_values(x, requantize, function):
    """75% of the values are 0, and the others four times what evaluation gives."""
    module = nn.Sequential(nn.Conv2d(4, 6, 1), function, nn.Dropout(0.75))
    net = network(module, x, requantize=requantize)
    net.phase = FROZEN
    evaluated, dropped = net.eval()(x), net.train()(x)
    kept = dropped != 0.0
    assert 0.2 < float(kept[evaluated != 0.0].float().mean()) < 0.3
    same = torch.isclose(dropped[kept], 4.0 * evaluated[kept], rtol=1e-5, atol=1e-6).float().mean()
    assert same == 1.0 if requantize == "float" else same > 0.99  # ties of fixed point are not looked at


@pytest.mark.parametrize("requantize", ["float", "fixed_point"])
@pytest.mark.parametrize(
    "read", [nn.GELU(), nn.Softmax(-1), nn.LayerNorm(8), nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)]
)
def test_what_reads_dropped_values_computes_with_them(x, requantize, read):
    """In the deployed phase too, where a value that is not dropped is a level of the integers."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(0.5), read).eval()
    net = network(module, x, requantize=requantize).train()
    net.phase = FROZEN
    x = channels_last(x)
    found, expected = seeded(net, x), seeded(module.train(), x)
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()


@pytest.mark.parametrize("quantizer", [schemes(4), replace(schemes(4), residual_bits=8)])
def test_dropout_is_not_deployed(x, quantizer):
    torch.manual_seed(0)
    net = train(network(Dropping().eval(), x, quantizer=quantizer), x, steps=2).eval()
    quantized = net.quantized()
    assert "dropout" not in {node.op for node in quantized.graph.nodes}
    with torch.no_grad():
        assert torch.equal(net(x), Simulation(lower(quantized, "float"))(x))


@pytest.mark.parametrize("momentum", [0.01, 0.5, None, 0.0])
@pytest.mark.parametrize("batch_norm", ["corrected", "naive"])
def test_batch_norm_has_the_modules_momentum(x, momentum, batch_norm):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, momentum=momentum))
    for _ in range(3):
        module(x + 1.0)
    net = network(module.eval(), x, batch_norm=batch_norm).train()
    net.phase = FLOAT
    module.train()
    for scale in (0.5, 2.0):
        net(scale * x), module(scale * x)
    layer = net.layers["0"]
    torch.testing.assert_close(layer.bn_mean, module[1].running_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.bn_var, module[1].running_var, rtol=1e-4, atol=1e-5)
    assert net.state_dict()["layers.0.bn_batches"] == (5 if momentum is None else 0)


class Mixed(nn.Module):
    """Frozen and trained parameters of every kind."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.Conv2d(6, 6, 1)
        self.pre, self.norm = nn.BatchNorm2d(4), nn.BatchNorm2d(6)
        self.token = nn.Parameter(torch.rand(6, 8, 8), requires_grad=False)
        self.learned = nn.Parameter(torch.rand(6, 1, 1))
        self.register_buffer("position", torch.rand(6, 8, 8))
        self.layer_norm, self.fc = nn.LayerNorm(6), nn.Linear(6, 3)
        self.row = nn.Conv1d(6, 6, 1)
        for frozen in (self.a.weight, self.norm.weight, self.layer_norm.bias, self.row.weight):
            frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.a(self.pre(x)))) + self.token
        x = F.relu(self.b(x)) * self.learned + self.position
        return self.fc(self.layer_norm(self.row(x.flatten(2)).mean(2)))


@ESTIMATORS
def test_what_is_frozen_stays_and_the_rest_learns(x, estimator):
    torch.manual_seed(0)
    module = Mixed().eval()
    net = network(module, x, estimator, granularity=PerTensor())
    learned = set(net.estimated())
    before = {n: p.detach().clone() for n, p in net.named_parameters() if p not in learned}
    optimizer = torch.optim.SGD(decayed_apart(net.parameters(), 0.1), 0.1)
    net.train()
    net.phase = Phase(batch_statistics=True, observe=True)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(net(x), torch.arange(16) % 3).backward()
        optimizer.step()
    moved = {n for n, p in net.named_parameters() if n in before and not torch.equal(p, before[n])}
    stayed = set(before) - moved
    assert stayed == {
        "layers.pre.weight",  # of the convolution that carries a BatchNorm without a layer before it
        "layers.a.weight",
        "layers.a.bn_weight",
        "layers.row/conv2d.weight",
        *(f"unquantized.{name}" for name in net.unquantized if not net.unquantized[name].requires_grad),
    }
    constants = {name: p.requires_grad for name, p in net.unquantized.items()}
    assert sorted(constants.values()) == [
        False,
        False,
        False,
        True,
        True,
    ]  # bias, token, position; γ, learned


class Tied(nn.Module):
    """One convolution called three times, a row convolution and a linear layer twice each."""

    def __init__(self, norm=False):
        super().__init__()
        self.stem, self.block = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.row, self.up = nn.Conv1d(6, 6, 1), nn.Linear(6, 6)
        self.down = nn.Linear(6, 6)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = F.relu(self.norm(self.block(x)))
        x = self.row(F.relu(self.row(x.flatten(2)))).mean(2)
        return self.down(F.relu(self.up(x)))


def integer_weights(quantized):
    return {
        node.name: quantized.integer_weight(node) for node in quantized.graph.nodes if "weight" in node.params
    }


@ESTIMATORS
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("scheme", [Symmetric, Stochastic])
def test_tied_layers_stay_tied(x, estimator, norm, scheme):
    torch.manual_seed(0)
    quantizer = WeightsAndActivations(weight=scheme(bits=4, signed=True), activation=Symmetric(bits=4))
    module = Tied(norm).eval()
    net = train(network(module, x, estimator, quantizer), x, steps=5).eval()
    weights = integer_weights(net.quantized())
    assert torch.equal(weights["block"], weights["block:2"])
    assert torch.equal(weights["block"], weights["block:3"])
    assert torch.equal(weights["row.conv2d"], weights["row.conv2d:2"])
    assert torch.equal(weights["up"], weights["down"])
    count = sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in set(net.estimated()))
    assert count == sum(p.numel() for p in module.parameters())
    assert net.layers["up"].bias is not net.layers["down"].bias
    with torch.no_grad():
        assert torch.equal(net(x), Simulation(lower(net.quantized(), "float"))(x))


def test_a_step_over_tied_layers_is_the_modules(x):
    """Gradients add up over the calls, and one BatchNorm sees them all."""
    torch.manual_seed(0)
    module = Tied(norm=True).eval()
    net = network(module, x).train()
    net.phase = FLOAT
    reference = copy.deepcopy(module).train()
    expected, found = reference(x), net(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(
        net.layers["block:2"].weight.grad, reference.block.weight.grad, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(net.layers["block:3"].bn_mean, reference.norm.running_mean)


def test_what_is_tied_stays_so_when_it_is_moved(x):
    net = network(Tied(norm=True).eval(), x).double()
    for role in ("weight", "bn_weight", "bn_mean", "bn_var"):
        assert getattr(net.layers["block"], role) is getattr(net.layers["block:3"], role)
    assert net.layers["block"].quantizer is net.layers["block:2"].quantizer


def test_the_same_weight_with_other_batch_norms_has_other_quantizers(x):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
            self.b.running_var.fill_(9.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.b(self.conv(self.a(self.conv(x)))))

    net = train(network(Net().eval(), x), x, steps=0)
    layers = [net.layers[name] for name in ("conv", "conv:2", "conv:3")]
    assert all(layer.weight is layers[0].weight for layer in layers)
    assert len({id(layer.quantizer) for layer in layers}) == 3
    quantized = net.eval().quantized()
    assert len({quantized.graph[n].params["weight"] for n in ("conv", "conv:2", "conv:3")}) == 3
    with torch.no_grad():
        assert torch.equal(net(x), Simulation(lower(quantized, "float"))(x))
