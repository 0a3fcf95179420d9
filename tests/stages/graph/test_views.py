"""Changes in place through a view change what it is a view of."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.lower import lower
from tests.quantizing import check_parity, fused, quantized
from tests.stages.graph.test_capture import Small, ops

SHAPE = (3, 8, 8)


def temporal_shift(x):
    y = torch.zeros_like(x)
    y[:, :2] = x[:, 2:]
    y[:, 2:, :-1] = x[:, :2, 1:]
    return y


def by_channel(x):
    for i in range(3):
        x[:, i] = (x[:, i] - 0.1 * i) / (i + 1)
    return x


def by_channel_in_place(x):
    for i in range(3):
        x[:, i].sub_(0.1 * i).div_(i + 1)
    return x


def with_a_step(x):
    y = torch.empty_like(x)
    y[..., 0::2], y[..., 1::2] = x[..., 0::2].sin(), x[..., 1::2].cos()
    return y


def padded(x):
    y = x.new_zeros(len(x), 4, 10, 10)
    y[:, :, 1:-1, 1:-1] = x
    return y


def exchanged(x):
    y = x.clone()
    y[:, 0], y[:, 2] = x[:, 2], x[:, 0]
    return y


def of_a_view_of_a_view(x):
    x.flatten(2).transpose(1, 2)[:, 1:][:, 0] = 0
    return x


def activated(x):
    return F.relu_(x[:, :2]).sum(1) + x.sum(1)


def flattened(x):
    x.view(len(x), -1).mul_(2)
    return x + 1


def permuted(x):
    x.permute(0, 2, 3, 1)[..., 0].fill_(0.5)
    return x


def masked(x):
    mask = x.new_zeros(1, 1, 8, 8)
    mask[..., :4] = -1
    return x + mask


BODIES = (
    *(temporal_shift, by_channel, by_channel_in_place, with_a_step, padded, exchanged),
    *(of_a_view_of_a_view, activated, flattened, permuted, masked),
)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_the_base_is_changed_too(body):
    """capture() compares the graph with the module."""
    torch.manual_seed(0)
    graph = fused(Small(body), SHAPE)
    assert "aten" not in ops(graph)
    x = torch.randn(4, *SHAPE)
    check_parity(lower(quantized(graph, x), "float"), x)


def test_the_input_may_be_changed():
    class Net(nn.Module):
        def forward(self, x):
            return by_channel_in_place(x)

    assert "concat" in ops(capture(Net(), SHAPE))


def test_what_is_not_read_again_costs_nothing():
    graph = capture(Small(lambda x: x[:, :2].relu_()), SHAPE)
    assert ops(graph)[2:] == ["slice", "clamp"]


def test_a_view_that_is_read_after_its_base_has_changed_is_refused():
    def body(x):
        y = x[:, :2]
        x[:, 0] = 0
        return torch.cat([y, y], 1)

    with pytest.raises(
        PipelineError, match="avoid in-place changes of tensors that are read again through a"
    ):
        capture(Small(body), SHAPE)
