"""Images and rows that are merged with the batch run on the operators of images, and stay integers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.lower import lower
from tests.stages.graph.test_lower import calibrated
from tests.stages.graph.test_simulate import compare


class Windows(nn.Module):
    """(N, 3, 8, 8) as windows (N·4, 3, 4, 4), a function of them, and one of its result."""

    def __init__(self, body, rows=False):
        super().__init__()
        self.body, self.rows = body, rows

    def forward(self, x):
        n = len(x)
        windows = x.reshape(n, 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(n * 4, 3, 4, 4)
        y = self.body(windows.flatten(2) if self.rows else windows)
        return y.reshape(n, -1, *y.shape[1:]).flatten(1)


def torch_conv(size, **options):
    return nn.Conv2d(3, 6, size, **options)


def agree(graph):
    """Raise unless simulation and program have the same integers."""
    quantized, x = calibrated(graph, torch.randn(2, 3, 8, 8))
    compare(lower(quantized, "float"), x)


CASES = {
    "plain": torch_conv(3),
    "padded": torch_conv(3, padding=1),
    "strided": torch_conv(3, padding=1, stride=2),
    "strided unevenly": torch_conv((2, 3), padding=(0, 1), stride=(3, 2)),
    "dilated": torch_conv(3, padding=2, dilation=2),
    "grouped": torch_conv(3, padding="same", groups=3, bias=False),
    "pointwise": torch_conv(1, stride=2),
    "whole window": torch_conv(4),
    "norm": nn.Sequential(torch_conv(3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
    "max pool": nn.MaxPool2d(3, 2, padding=1),
    "average pool": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    "global pool": nn.AdaptiveAvgPool2d(1),
    "upsampled": nn.Upsample(scale_factor=2),
}
ROWS = {
    "rows": nn.Conv1d(3, 6, 3, padding=1),
    "rows strided": nn.Conv1d(3, 6, 5, stride=2, padding="valid", bias=False),
    "rows pooled": nn.MaxPool1d(2),
}


@pytest.mark.parametrize("name", [*CASES, *ROWS])
def test_windows_merged_with_the_batch_are_integers(name):
    torch.manual_seed(0)
    module = Windows({**CASES, **ROWS}[name], rows=name in ROWS).eval()
    graph = fuse(fold_batch_norm(capture(module, (3, 8, 8))))
    assert not [node.name for node in graph.nodes if node.op == "aten"]
    agree(graph)


class Relative(nn.Module):
    """Windows (N·4, 4, 4, 3) by a table of positions, and by themselves: einsum with windows in the batch."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(4, 5, 3))

    def forward(self, x):
        by_table = torch.einsum("bchw,hkc->bhwk", x, self.table)
        return torch.einsum("bhwk,bchw->bkc", by_table, x)


def test_einsum_over_windows_is_a_product_of_matrices():
    torch.manual_seed(0)
    graph = fuse(fold_batch_norm(capture(Windows(Relative()), (3, 8, 8))))
    assert [node.op for node in graph.nodes].count("matmul") == 2
    assert not [node.name for node in graph.nodes if node.op == "aten"]
    agree(graph)


def test_transposed_convolutions_over_windows_stay_float():
    graph = capture(Windows(nn.ConvTranspose2d(3, 2, 2)), (3, 8, 8))
    (island,) = [node for node in graph.nodes if node.op == "aten"]
    assert island.attrs["why"] == "works on windows that are merged with the batch"


class PaddedMaximum(nn.Module):
    """A max pool of what is padded by a number, one-sided, as networks from TensorFlow are."""

    def __init__(self, pads, number=float("-inf"), **options):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.pad = partial(F.pad, pad=pads, value=number)
        self.pool = nn.MaxPool2d(3, 2, **options)

    def forward(self, x):
        return self.pool(self.pad(self.conv(x)))


@pytest.mark.parametrize(
    ("pads", "options"),
    [
        ((0, 1, 0, 1), {}),
        ((1, 1, 2, 2), {}),
        ((0, 1), {"padding": 1}),
        ((1, 0, 1, 0), {"ceil_mode": True}),
    ],
)
def test_a_maximum_over_a_padding_of_infinity_is_that_of_its_border(pads, options):
    torch.manual_seed(0)
    graph = fuse(fold_batch_norm(capture(PaddedMaximum(pads, **options), (3, 8, 8))))
    assert not [node.name for node in graph.nodes if node.op == "aten"]
    agree(graph)


def test_windows_in_the_padding_alone_have_no_level():
    """Their maximum is −∞, which the module gives as well."""
    with pytest.raises(PipelineError, match="gives NaN or infinity"):
        capture(PaddedMaximum((0, 4, 0, 4)), (3, 8, 8))
