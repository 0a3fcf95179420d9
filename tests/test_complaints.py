"""What users of quantization tools complain of in public, as whole networks: the right value of each.

Captured, calibrated, lowered: the program computes the simulation's levels, and is near the float network.
Complaints about one part of the project stand beside the tests of that part.
"""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.corrections.equalize import equalize
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.integer.interpreter import dequantize_output
from stages.measuring.accuracy import sqnr_db
from stages.models.weights import load_weights
from tests.quantizing import check_parity, fused, quantized

SHAPE = (3, 10, 10)


class Tail(nn.Module):
    """A head over what `body` gives."""

    def __init__(self, body, features, stem=True):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1) if stem else nn.Identity()
        self.body, self.head = body, nn.Linear(features, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).flatten(1))


class Function(nn.Module):
    """A function of a value and of buffers by name."""

    def __init__(self, function, **buffers):
        super().__init__()
        self.function = function
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **dict(self.named_buffers()))


class SqueezeAndExcite(nn.Module):
    """The most copied spelling of it."""

    def __init__(self, channels):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 2, bias=False), nn.ReLU(inplace=True), nn.Linear(2, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        return x * self.fc(self.pool(x).view(b, c)).view(b, c, 1, 1).expand_as(x)


MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)

NETWORKS = {
    "(x − mean) / std inside": (
        Function(lambda x, mean, std: (x - mean) / std, mean=MEAN, std=STD),
        300,
        False,
    ),
    "x / std inside": (Function(lambda x, std: x / std, std=STD), 300, False),
    "(x / 255 − mean) / std inside": (
        Function(
            lambda x, mean, std: (x / 255.0 - mean[0, :, 0, 0].view(-1, 1, 1)) / std, mean=MEAN, std=STD
        ),
        300,
        False,
    ),
    "BatchNorm1d after Flatten": (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(400)), 400, True),
    "BatchNorm1d after ReLU": (
        nn.Sequential(nn.Flatten(), nn.Linear(400, 9), nn.ReLU(), nn.BatchNorm1d(9), nn.Dropout(0.75)),
        9,
        True,
    ),
    "BatchNorm before a convolution": (
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)),
        400,
        True,
    ),
    "squeeze-and-excite": (SqueezeAndExcite(4), 400, True),
    "count_include_pad=False": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), 100, True),
    "ceil_mode=True": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), 144, True),
    "AdaptiveAvgPool2d(7) from 10": (nn.AdaptiveAvgPool2d(7), 196, True),
    "RMSNorm": (nn.RMSNorm((4, 10, 10)), 400, True),
    "sqrt": (Function(lambda x: x.abs().sqrt()), 400, True),
    "softplus": (nn.Softplus(), 400, True),
    "where, of two values": (Function(lambda x: torch.where(x > 0.5, x, x.square())), 400, True),
    "maximum": (Function(lambda x: torch.maximum(x[:, :2], x[:, 2:])), 200, True),
    "GLU": (nn.GLU(1), 200, True),
    "flip": (Function(lambda x: x.flip(-1)), 400, True),
    "channel shuffle": (nn.ChannelShuffle(2), 400, True),
    "weight_norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), 256, True),
}


def randomized(module):
    """The module with statistics of BatchNorm as after some training."""
    generator = torch.Generator().manual_seed(2)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean.normal_(0.0, 0.3, generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return module


@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_refused_is_taken_and_the_integers_are_right(name):
    torch.manual_seed(0)
    body, features, stem = NETWORKS[name]
    module = randomized(Tail(body, features, stem)).eval()
    x = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(1))
    program = lower(quantized(fused(module, SHAPE), x), "float")
    found = dequantize_output(program, check_parity(program, x)[program.output]).astype(np.float64)
    with torch.no_grad():
        expected = module(x).double().numpy()
    assert sqnr_db(np.square(expected).sum(), np.square(found - expected).sum()) > 28.0


def test_where_of_two_values_alone_is_an_island():
    islands = set()
    for name, (body, features, stem) in NETWORKS.items():
        graph = fused(randomized(Tail(body, features, stem)), SHAPE)
        islands |= {name for node in graph.nodes if node.op == "aten"}
    assert islands == {"where, of two values"}


def test_batch_norm_without_statistics_would_mix_samples():
    """What it computes of one sample depends on the others: no integers, and no island, can say that."""
    module = Tail(nn.BatchNorm2d(4, track_running_stats=False), 400)
    with pytest.raises(PipelineError, match=r"batch_norm in body: .* whose samples it mixes. Set track_run"):
        fused(module, SHAPE)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda x: F.dropout(x), "F.dropout is on unless it is told otherwise. Write F.dropout"),
        (lambda x: F.dropout2d(x, 0.1), r"Write F.dropout2d\(x, 0.1, training=self.training\)"),
        (lambda x: F.alpha_dropout(x, 0.1, training=True), "Write F.alpha_dropout"),
    ],
)
def test_dropout_that_is_left_on_is_called_dropout(body, said):
    with pytest.raises(PipelineError, match=rf"dropout in body: drops values in evaluation too: .*{said}"):
        fused(Tail(Function(body), 400), SHAPE)


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_refused_with_a_remedy(recurrent):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = recurrent(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0][:, -1]

    with pytest.raises(PipelineError, match=r"in rnn: is recurrent.* or replace it by convolutions or att"):
        fused(Net(), (10, 3))


@pytest.mark.parametrize("size", [1e-6, 1e-28])
def test_a_channel_of_tiny_weights_is_not_made_worse_by_equalize(size):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(300, 16), nn.ReLU(), nn.Linear(16, 5)).eval()
    module[1].weight.data[3] *= size
    module[1].bias.data[3] = 1.0
    graph = fused(module, SHAPE)
    x = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(1))
    noise = []
    for candidate in (graph, equalize(graph)):
        program = lower(quantized(candidate, x), "float")
        found = dequantize_output(program, check_parity(program, x)[program.output]).astype(np.float64)
        expected = execute(graph, x).double().numpy()
        noise.append(sqnr_db(np.square(expected).sum(), np.square(found - expected).sum()))
    assert noise[1] > noise[0] - 1.0


def test_a_checkpoint_in_half_precision_of_a_network_that_casts_is_read_and_captured(tmp_path, caplog):
    """Both casts are told of, and the graph computes with what the file holds."""

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(300, 5)

        def forward(self, x):
            return self.fc(x.flatten(1).to(self.fc.weight.dtype)).float()

    torch.manual_seed(0)
    trained = Half().half()
    torch.save({"epoch": np.float64(3), "net": trained.state_dict()}, tmp_path / "ck.pt")
    with caplog.at_level(logging.INFO):
        graph = fused(load_weights(Half(), str(tmp_path / "ck.pt"), "Half"), SHAPE)
    assert "cast from float16" in caplog.text
    assert torch.equal(graph.params["fc.weight"], trained.fc.weight.float())


@pytest.mark.parametrize(
    ("gives", "output"),
    [
        (lambda y, x: (y,), None),
        (lambda y, x: [y], None),
        (lambda y, x: {"logits": y}, None),
        (lambda y, x: (x, y), "1"),
        (lambda y, x: {"features": x, "logits": y}, "logits"),
        (lambda y, x: (None, y), None),
    ],
)
def test_logits_in_a_tuple_list_or_mapping(gives, output):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(300, 5)

        def forward(self, x):
            return gives(self.fc(x.flatten(1)), x)

    module = Net()
    graph = capture(module, SHAPE, output=output)
    x = torch.randn(3, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(execute(graph, x), module.fc(x.flatten(1)))
