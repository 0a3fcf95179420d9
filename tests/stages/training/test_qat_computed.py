"""Quantized training of networks with gates and attention: what is no layer learns too."""

import pytest
import torch

from stages.graph.capture import capture
from stages.quant.estimators.lsq import Lsq
from stages.quant.granularity.per_channel import PerChannel
from stages.training.qat_network import QatNetwork
from tests.stages.graph.test_lower import SHAPE
from tests.stages.graph.test_lower_computed import NETWORKS
from tests.stages.training.test_qat_network import assert_simulated, calibrated, schemes


@pytest.fixture(params=["Gated", "Attention", "Arithmetic"])
def network(request):
    torch.manual_seed(0)
    graph = capture(NETWORKS[request.param](), SHAPE)
    x = torch.randn(16, *SHAPE)
    quantizer = schemes(8, affine=True)
    with torch.no_grad():
        quantized = calibrated(graph, x, quantizer, PerChannel())
    return QatNetwork(graph, quantized, quantizer, Lsq(), batch_norm="frozen"), x


def test_in_evaluation_mode_it_is_the_simulation_of_what_it_deploys(network):
    net, x = network
    assert_simulated(net.eval(), x)


def test_every_parameter_learns_and_is_deployed(network):
    net, x = network
    before = {key: tensor.clone() for key, tensor in net.quantized().graph.params.items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.train()
    net(x).square().mean().backward()
    for name, parameter in net.named_parameters():
        if name.startswith(("unquantized", "layers")) and "quantizer" not in name:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    optimizer.step()
    after = net.quantized().graph.params
    assert after.keys() == before.keys()
    for node in net.quantized().graph.nodes:
        if node.op in ("layer_norm", "constant", "scale_channels", "rms_norm", "group_norm"):
            assert all(not torch.equal(after[key], before[key]) for key in node.params.values()), node.name
