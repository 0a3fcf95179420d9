"""A small network with everything that corrections meet, calibrated to few bits."""

import pytest
import torch
from torch import nn

from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.points import layers, quantization_points, sources
from stages.graph.quantized import QuantizedGraph
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.weights import weight_qparams


class Net(nn.Module):
    """Strides, groups, a residual, a layer without bias, pooling, and an output without activation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.expand = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.fc = nn.Linear(8 * 4, 5)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        z = nn.functional.relu6(self.depthwise(y))
        z = torch.relu(self.expand(z) + y)
        return self.fc(nn.functional.max_pool2d(z, 2).flatten(1))


def calibrated(graph, x, bits):
    """A quantized graph by min/max, per channel, `bits` for weights and 8 for activations."""
    values = {}
    execute(graph, x, lambda node, value: values.setdefault(node.name, value))
    activations = {
        name: Symmetric(bits=8).qparams(values[name].min(), values[name].max())
        for name in quantization_points(graph)
    }
    weights = {
        name: weight_qparams(
            graph.params[graph[name].params["weight"]],
            graph.param(graph[name], "bias"),
            activations[sources(graph)[graph[name].inputs[0]]].scale,
            Symmetric(bits=bits, signed=True),
            MinMax(),
            PerChannel(),
        )
        for name in layers(graph)
    }
    return QuantizedGraph(graph=graph, activations=activations, weights=weights)


@pytest.fixture(scope="session")
def samples():
    return torch.randn(50, 2, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def quantized(samples):
    with torch.random.fork_rng(), torch.inference_mode(False):
        torch.manual_seed(0)
        graph = fuse(fold_batch_norm(capture(Net().eval(), (2, 8, 8))))
    with torch.no_grad():
        return calibrated(graph, samples, bits=3)
