"""What does not depend on the input is computed at capture, unless it is drawn by chance."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from tests.stages.graph.test_capture import Small, ops

SHAPE = (3, 8, 8)


class Normalized(nn.Module):
    """The mean and deviation of channels, made as large as the image, before a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.3]).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv((x - self.mean.expand_as(x)) / self.std.expand(len(x), 3, 8, 8))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda x: x + torch.zeros_like(x), ["constant", "add"]),
        (lambda x: x + x.new_zeros(x.shape), ["constant", "add"]),
        (lambda x: torch.cat([x, torch.full_like(x[:, :1], 0.5)], 1), ["constant", "concat"]),
        (lambda x: torch.cat([x, x.new_full((len(x), 1, 8, 8), 2.0)], 1), ["constant", "concat"]),
        (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), ["table", "multiply"]),
        (lambda x: torch.zeros_like(x).add_(1.0) + torch.zeros_like(x) + x, ["constant", "add"]),
        (lambda x: x + F.dropout(torch.ones(4, 8, 8), 0.1, training=False), ["constant", "add"]),
    ],
)
def test_values_of_which_only_the_shape_counts_are_constants(body, expected):
    assert ops(capture(Small(body), SHAPE))[2:] == expected


def test_a_constant_as_large_as_the_value_counts_as_what_it_was_expanded_from():
    graph = fuse(fold_batch_norm(capture(Normalized(), SHAPE)))
    assert ops(graph) == ["input", "conv2d"]


@pytest.mark.parametrize(
    ("body", "function"),
    [
        (lambda x: x + torch.rand(4, 1, 1), "rand"),
        (lambda x: x * (torch.rand(x.shape) > 0.5), "rand"),
        (lambda x: x[:, torch.randperm(4)], "randperm"),
        (lambda x: x + F.dropout(torch.ones(4, 8, 8), 0.1), "dropout"),
        (lambda x: x * torch.ones(4, 1, 1).bernoulli_(0.5), "bernoulli_"),
        (lambda x: F.fractional_max_pool2d(x, 2, output_size=3), "rand"),
    ],
)
def test_numbers_drawn_by_chance_are_refused(body, function):
    with pytest.raises(
        PipelineError, match=f"{function} in the root module: draws random numbers in evaluation"
    ):
        capture(Small(body), SHAPE)


def test_a_size_that_depends_on_values_is_refused_with_the_remedy():
    with pytest.raises(
        PipelineError, match=r"index in the root module: has a size that depends on values. Index"
    ):
        capture(Small(lambda x: x[:, torch.tensor([True, False, True, True])]), SHAPE)
