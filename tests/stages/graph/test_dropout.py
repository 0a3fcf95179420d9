"""Dropout is kept from capture to training, and changes no node that is deployed."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.graph.capture import capture
from stages.graph.dropout import put_back, taken_out, without_dropout
from stages.graph.execute import execute
from stages.graph.fold import attach_batch_norm, fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.residual import with_copies


@dataclass
class Drop:
    """Functional dropout that counts on being told."""

    p: float = 0.4

    def __call__(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, training=False)


DROP = Drop()


class Net(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.norm, self.c = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


BODIES = {
    "between layers": lambda m, x: m.b(DROP(F.relu(m.a(x)))),
    "before ReLU": lambda m, x: m.b(F.relu(DROP(m.a(x)))),
    "before ReLU6 and a pool": lambda m, x: m.b(F.relu6(F.max_pool2d(DROP(m.a(x)), 2))),
    "before BatchNorm": lambda m, x: F.relu(m.norm(DROP(DROP(m.a(x))))),
    "before BatchNorm, read twice": lambda m, x: m.norm(y := DROP(m.a(x))) + y,
    "before a sum": lambda m, x: (y := F.relu(m.a(x))) + DROP(m.b(y)),
    "before a sum and twice": lambda m, x: F.relu(DROP(DROP(m.b(y := m.a(x)))) + y),
    "of the shortcut": lambda m, x: m.b(y := F.relu(m.a(x))) + DROP(y),
    "of both terms": lambda m, x: DROP(m.b(y := F.relu(m.a(x)))) + DROP(y),
    "of one value twice": lambda m, x: DROP(y := F.relu(m.a(x))) + y,
    "of a stream": lambda m, x: m.c(z := DROP(F.relu(m.b(y := DROP(F.relu(m.a(x)))) + y))) + m.c(z),
    "between tables": lambda m, x: m.b(torch.tanh(DROP(F.gelu(m.a(x))))),
    "of a gate": lambda m, x: (y := m.a(x)) * DROP(torch.sigmoid(y)),
    "of what is gated": lambda m, x: DROP(y := m.a(x)) * torch.sigmoid(y),
    "between slices": lambda m, x: DROP(m.a(x)[:, :, 1:])[:, :, 2:],
    "of a product": lambda m, x: DROP((y := m.a(x)) @ y) * 0.5,
    "of channels": lambda m, x: m.b(F.dropout2d(F.relu(m.a(x)), 0.5, training=False)),
    "of the output": lambda m, x: DROP(m.a(x)),
    "of the output behind ReLU": lambda m, x: F.relu(DROP(m.a(x))),
    "of the input": lambda m, x: m.a(DROP(x)),
}


@pytest.fixture(params=BODIES, scope="module")
def graph(request):
    torch.manual_seed(0)
    return capture(Net(BODIES[request.param]), (3, 8, 8))


def drops(graph):
    inside = sum(len(node.attrs.get("dropout", ())) for node in graph.nodes)
    return inside + sum(node.op == "dropout" for node in graph.nodes)


def test_it_survives_fusion_without_changing_what_is_deployed(graph):
    attached = attach_batch_norm(graph)
    kept = fuse(attached, keep_dropout=True)
    assert drops(kept) == drops(graph) > 0
    plain, dropouts = taken_out(kept)
    assert plain.nodes == fuse(attached).nodes
    assert drops(plain) == 0
    assert put_back(plain, dropouts).nodes == kept.nodes


def test_it_comes_back_among_copies_of_a_stream(graph):
    attached = attach_batch_norm(graph)
    copied = with_copies(fuse(attached), 4)
    again = put_back(copied, taken_out(fuse(attached, keep_dropout=True))[1])
    assert drops(again) >= drops(graph)
    assert taken_out(again)[0].nodes == copied.nodes
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    folded = again.with_params(fold_batch_norm(copied).params)
    norm = any("bn_mean" in node.params for node in copied.nodes)
    if not norm:
        assert torch.equal(execute(folded, x), execute(copied, x))


def test_folding_and_evaluation_do_not_know_it(graph):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    deployed = fuse(fold_batch_norm(graph))
    assert drops(deployed) == 0
    assert deployed.nodes == fuse(fold_batch_norm(without_dropout(graph))).nodes
    torch.testing.assert_close(execute(deployed, x), execute(graph, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.Dropout(0.75), "dropout"),
        (nn.Dropout2d(0.75), "feature_dropout"),
        (nn.AlphaDropout(0.75), "alpha_dropout"),
        (nn.FeatureAlphaDropout(0.75), "feature_alpha_dropout"),
    ],
)
def test_capture_says_which_and_how_much(module, function):
    graph = capture(nn.Sequential(nn.Conv2d(3, 4, 1), module), (3, 8, 8))
    assert graph["1"].attrs == {"function": function, "p": 0.75}
