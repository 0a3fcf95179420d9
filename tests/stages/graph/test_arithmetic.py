"""Sums, products and quotients of two values: the smaller is broadcast, however it was written."""

import pytest
import torch
from torch import Tensor, nn

from stages.graph.capture import capture
from tests.stages.graph.test_capture import Called, Small, ops

SHAPE = (3, 8, 8)
POOLED = ["avg_pool2d"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda x, y: x * y.expand_as(x), ["multiply"]),
        (lambda x, y: y.expand(-1, -1, 8, 8) * x, ["multiply"]),
        (lambda x, y: x * y.broadcast_to(x.shape), ["multiply"]),
        (lambda x, y: x * y.repeat(1, 1, 8, 8), ["multiply"]),
        (lambda x, y: x - y.expand_as(x), ["subtract"]),
        (lambda x, y: torch.maximum(x, y.expand_as(x)), ["maximum"]),
        (lambda x, y: x / y.exp().expand_as(x), ["table", "table", "multiply"]),
    ],
)
def test_what_is_expanded_to_the_other_is_as_what_is_broadcast(body, expected):
    graph = capture(Small(Called(lambda x: body(x, x.mean((2, 3), keepdim=True)))), SHAPE)
    assert ops(graph)[2:] == [*POOLED, *expected]


class SqueezeAndExcite(nn.Module):
    """Linear layers over means of channels; `gate` brings what they give to the image."""

    def __init__(self, gate):
        super().__init__()
        self.squeeze, self.excite, self.gate = nn.Linear(4, 2), nn.Linear(2, 4), gate

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.excite(torch.relu(self.squeeze(nn.functional.adaptive_avg_pool2d(x, 1).view(b, c))))
        return self.gate(x, torch.sigmoid(y))


@pytest.mark.parametrize(
    "gate",
    [
        lambda x, y: x * y.view(x.shape[0], x.shape[1], 1, 1).expand_as(x),
        lambda x, y: x * y.view(-1, 4, 1, 1),
        lambda x, y: x * y.unflatten(1, (4, 1, 1)).expand(x.shape),
        lambda x, y: torch.mul(y[:, :, None, None].broadcast_to(x.shape), x),
        lambda x, y: x.mul_(y.unsqueeze(-1).unsqueeze(-1)),
    ],
)
def test_squeeze_and_excite_is_one_product_however_it_is_written(gate):
    graph = capture(Small(SqueezeAndExcite(gate)), SHAPE)
    found = [op for op in ops(graph)[2:] if op != "reshape"]
    assert found == ["avg_pool2d", "linear", "clamp", "linear", "table", "multiply"]


def test_a_sum_keeps_what_is_expanded_which_a_layer_may_add():
    graph = capture(Small(Called(lambda x: x + x.mean((2, 3), keepdim=True).expand_as(x))), SHAPE)
    assert ops(graph)[2:] == ["avg_pool2d", "take", "take", "add"]
