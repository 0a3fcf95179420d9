"""Windows put back into an image are the sums that `F.fold` gives, in integers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.graph.capture import capture
from stages.graph.fuse import fuse
from stages.graph.lower import lower
from tests.stages.graph.test_lower import calibrated
from tests.stages.graph.test_simulate import compare


class Folded(nn.Module):
    def __init__(self, **geometry):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.unfold, self.fold = nn.Unfold(**geometry), nn.Fold((8, 9), **geometry)

    def forward(self, x):
        return self.fold(self.unfold(self.conv(x)))


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 0), "dilation": (1, 2)},
    ],
    ids=str,
)
def test_fold_is_a_transposed_convolution(geometry):
    torch.manual_seed(0)
    graph = fuse(capture(Folded(**geometry), (3, 8, 9)))
    assert not any(node.op == "aten" for node in graph.nodes)
    assert any(key.startswith("fold") for key in graph.frozen)
    quantized, x = calibrated(graph, torch.randn(2, 3, 8, 9))
    compare(lower(quantized, "float"), x)
