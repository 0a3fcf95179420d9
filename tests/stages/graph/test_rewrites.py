"""Folding and fusion leave the float function unchanged, and do fuse."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.points import quantization_points, sources
from stages.graph.serialize import load_graph, save_graph


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give BatchNorm statistics and affine parameters that are not the identity."""
    generator = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in ((m.running_mean, -1, 1), (m.running_var, 0.1, 2), (m.weight, -2, 2)):
                if tensor is not None:
                    tensor.data.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return module.eval()


class Residual(nn.Module):
    """Two convolutions with BatchNorm and an option-A or projection shortcut."""

    def __init__(self, projection: bool, pre_activation: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.shortcut = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2), nn.BatchNorm2d(6)) if projection else None
        self.pre = nn.BatchNorm2d(4) if pre_activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.pre(x))
        y = self.bn2(self.conv2(F.relu6(self.bn1(self.conv1(x)))))
        r = self.shortcut(x) if self.shortcut else F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        return F.relu(y + r)


def same_function(graph, module, shape=(4, 8, 8)):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(execute(graph, x), module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("pre_activation", [False, True])
def test_residual_block_becomes_its_convolutions(projection, pre_activation):
    module = randomize(Residual(projection, pre_activation))
    graph = fuse(fold_batch_norm(capture(module, (4, 8, 8))))
    same_function(graph, module)
    assert not {"batch_norm", "add"} & {node.op for node in graph.nodes}
    fused = graph[graph.output]
    assert (fused.op, len(fused.inputs), fused.clamp_min) == ("conv2d", 2, 0.0)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    bias=st.booleans(),
    groups=st.sampled_from([1, 2, 4]),
    affine=st.booleans(),
)
def test_folding_leaves_the_function_unchanged(seed, bias, groups, affine):
    """fold(conv → bn) == conv → bn for any statistics, with and without bias and affine parameters."""
    norm = nn.BatchNorm2d(4, affine=affine)
    module = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=groups, bias=bias), norm if affine else nn.BatchNorm2d(4)
    )
    randomize(module, seed)
    folded = fold_batch_norm(capture(module, (4, 8, 8)))
    assert [node.op for node in folded.nodes] == ["input", "conv2d"]
    same_function(folded, module)


def test_two_batch_norms_in_a_row_fold_into_one_layer():
    module = randomize(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)))
    folded = fold_batch_norm(capture(module, (4, 8, 8)))
    assert [node.op for node in folded.nodes] == ["input", "conv2d"]
    same_function(folded, module)


def test_batch_norm_after_linear_folds():
    module = randomize(nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.BatchNorm1d(5)))
    folded = fold_batch_norm(capture(module, (4, 8, 8)))
    same_function(folded, module)
    assert folded.output == "1"


class SharedLayer(nn.Module):
    """The convolution's value is read by BatchNorm and by the sum: folding would change the sum."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.bn(y)


def test_a_layer_with_other_readers_keeps_its_value():
    module = randomize(SharedLayer())
    folded = fold_batch_norm(capture(module, (4, 8, 8)))
    same_function(folded, module)
    assert [node.op for node in folded.nodes] == ["input", "conv2d", "conv2d", "add"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ((nn.Flatten(), nn.BatchNorm1d(256)), ["reshape", "scale_channels"]),
        ((nn.Flatten(), nn.BatchNorm1d(256), nn.BatchNorm1d(256)), ["reshape", "scale_channels"]),
        ((nn.Flatten(), nn.ReLU(), nn.BatchNorm1d(256), nn.ReLU()), ["reshape", "clamp", "scale_channels"]),
    ],
)
def test_batch_norm_over_a_vector_without_layer_scales_channels(body, expected):
    module = randomize(nn.Sequential(*body))
    folded = fuse(fold_batch_norm(capture(module, (4, 8, 8))))
    assert [node.op for node in folded.nodes] == ["input", *expected]
    same_function(folded, module)


class TwoUses(nn.Module):
    """One convolution applied twice, with two BatchNorms: its weight must not be folded twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv(self.bn1(self.conv(x))))


def test_a_shared_weight_is_folded_apart():
    module = randomize(TwoUses())
    same_function(fuse(fold_batch_norm(capture(module, (4, 8, 8)))), module)


def test_clamp_moves_above_a_pool():
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.Flatten(), nn.ReLU()).eval()
    graph = fuse(capture(module, (4, 8, 8)))
    assert [node.op for node in graph.nodes] == ["input", "conv2d", "max_pool2d", "reshape"]
    same_function(graph, module)


class ReadBeforeClamp(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([y, F.relu(y)], 1)


def test_clamp_stays_where_its_source_is_read_elsewhere():
    module = ReadBeforeClamp()
    graph = fuse(capture(module, (4, 8, 8)))
    assert [node.op for node in graph.nodes] == ["input", "conv2d", "clamp", "concat"]
    same_function(graph, module)


def test_two_clamps_give_the_tighter_bounds():
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Hardtanh(-1.0, 8.0), nn.ReLU6()).eval()
    graph = fuse(capture(module, (4, 8, 8)))
    assert (graph["0"].clamp_min, graph["0"].clamp_max) == (0.0, 6.0)
    same_function(graph, module)


class Slices(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 1:, ::2, 1::3][:, :, 1:3]


def test_slices_merge():
    graph = fuse(capture(Slices(), (4, 8, 8)))
    assert [node.op for node in graph.nodes] == ["input", "slice"]
    same_function(graph, Slices())


def test_moved_values_share_the_parameters_of_their_source():
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)).eval()
    graph = fuse(capture(module, (4, 8, 8)))
    assert quantization_points(graph) == ("input", "0", "3")
    assert sources(graph) == {"input": "input", "0": "0", "1": "0", "2": "0", "3": "3"}


def test_a_graph_survives_the_disk_bit_for_bit(tmp_path):
    module = randomize(Residual(projection=True))
    graph = fuse(fold_batch_norm(capture(module, (4, 8, 8))))
    save_graph(graph, tmp_path)
    loaded = load_graph(tmp_path)
    assert loaded.nodes == graph.nodes
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(execute(loaded, x), execute(graph, x))
