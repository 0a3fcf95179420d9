"""Factors and offsets of channels fold into a neighbour where that leaves the float function unchanged."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.graph.capture import capture
from stages.graph.fold import attach_batch_norm, fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.lower import lower
from stages.graph.simulate import Simulation
from tests.stages.graph.test_lower import quantized
from tests.stages.graph.test_rewrites import randomize, same_function

SHAPE = (4, 8, 8)


class Scale(nn.Module):
    """``(x − mean) · gain``, numbers of channels along one dimension."""

    def __init__(self, *sizes: int, mean: bool = True, spread: float = 2.0):
        super().__init__()
        gain = torch.linspace(1.0, spread, max(sizes)).reshape(sizes)
        self.gain = nn.Parameter(gain)
        self.register_buffer("mean", torch.rand(sizes) if mean else None)

    def forward(self, x: Tensor) -> Tensor:
        return (x if self.mean is None else x - self.mean) * self.gain


class Moved(nn.Module):
    """torchvision's ConvNeXt: a linear layer over channels-last, a permutation, a factor of channels."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 6), Scale(6, 1, 1, mean=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def conv(*, padding=0, groups=1):
    return nn.Conv2d(4, 8, 3, padding=padding, groups=groups)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([conv(), Scale(8, 1, 1)], ["conv2d"]),
        ([conv(), nn.BatchNorm2d(8), Scale(1, 8, 1, 1), nn.ReLU()], ["conv2d"]),
        ([conv(), nn.BatchNorm2d(8, affine=False), Scale(8, 1, 1)], ["conv2d"]),
        ([nn.LayerNorm(8), Scale(8)], ["layer_norm"]),
        ([nn.LayerNorm(8, elementwise_affine=False), Scale(8)], ["layer_norm"]),
        ([nn.GroupNorm(2, 4), Scale(4, 1, 1)], ["group_norm"]),
        ([nn.RMSNorm(8), Scale(8, mean=False)], ["rms_norm"]),
        ([nn.RMSNorm(8), Scale(8)], ["rms_norm", "scale_channels"]),
        ([nn.Linear(8, 5), Scale(5)], ["linear"]),
        ([Moved()], ["permute", "linear", "permute"]),
        ([Scale(4, 1, 1), conv()], ["conv2d"]),
        ([Scale(4, 1, 1), conv(groups=2)], ["conv2d"]),
        ([Scale(4, 1, 1, mean=False), conv(padding=1)], ["conv2d"]),
        ([Scale(8), nn.Linear(8, 5, bias=False)], ["linear"]),
        ([nn.Flatten(2), Scale(4, 1), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)], None),
        ([Scale(4, 1, 1), conv(padding=1)], ["scale_channels", "conv2d"]),
        ([Scale(4, 1, 1, spread=9.0), conv()], ["scale_channels", "conv2d"]),
        ([Scale(8, 1), conv()], ["scale_channels", "conv2d"]),
        ([conv(), nn.ReLU(), Scale(8, 1, 1)], ["conv2d", "scale_channels"]),
        ([Scale(4, 1, 1), nn.ReLU(), conv()], ["scale_channels", "conv2d"]),
    ],
)
def test_folding_is_exact(body, expected):
    module = randomize(nn.Sequential(*body))
    graph = fuse(fold_batch_norm(capture(module, SHAPE)))
    same_function(graph, module)
    found = [node.op for node in graph.nodes[1:]]
    assert found == expected if expected else "scale_channels" not in found


def test_batch_norm_over_rows_that_are_merged_with_the_batch():
    """timm's LeViT: (N, L, C) flattened to (N·L, C), normalized, and taken apart again."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6)

        def forward(self, x):
            y = self.linear(x.flatten(1, 2))
            return self.norm(y.flatten(0, 1)).reshape_as(y)

    module = randomize(Net())
    graph = fuse(fold_batch_norm(capture(module, SHAPE)))
    same_function(graph, module)
    assert {node.op for node in graph.nodes[1:]} <= {"reshape", "linear"}
    assert not {"linear.weight", "linear.bias"} & graph.frozen


def test_numbers_beside_it_are_merged():
    """``(x / 255 − mean) / std``, as networks that hold their own normalization compute it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.conv = Scale(4, 1, 1), conv()

        def forward(self, x):
            return self.conv(self.scale(x / 2.0) * 3.0 + 1.0)

    module = Net()
    graph = fuse(fold_batch_norm(capture(module, SHAPE)))
    same_function(graph, module)
    assert [node.op for node in graph.nodes] == ["input", "conv2d"]


def test_a_value_with_other_readers_is_not_scaled():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.scale = conv(), Scale(8, 1, 1)

        def forward(self, x):
            y = self.conv(x)
            return y + self.scale(y)

    module = Net()
    graph = fuse(fold_batch_norm(capture(module, SHAPE)))
    same_function(graph, module)
    assert sorted(node.op for node in graph.nodes[1:]) == ["add", "conv2d", "scale_channels"]


def test_readers_that_are_all_layers_take_it():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.a, self.b = Scale(4, 1, 1), conv(), conv()

        def forward(self, x):
            x = self.scale(x)
            return F.relu(self.a(x)) + self.b(x)

    module = Net()
    graph = fuse(fold_batch_norm(capture(module, SHAPE)))
    same_function(graph, module)
    assert [node.op for node in graph.nodes[1:]] == ["conv2d", "conv2d"]


def test_what_stays_stays_whatever_its_numbers_become():
    """Training moves the factors: nodes must be those that were calibrated."""
    captured = capture(nn.Sequential(Scale(4, 1, 1, mean=False, spread=9.0), conv()), SHAPE)
    attached = fuse(attach_batch_norm(captured))
    even = attached.with_params(
        {key: torch.ones_like(t) for key, t in attached.params.items() if key.endswith("factor")}
    )
    assert [node.op for node in fold_batch_norm(even).nodes] == ["input", "scale_channels", "conv2d"]
    assert fold_batch_norm(even).nodes == fuse(fold_batch_norm(captured)).nodes


def test_it_rests_where_what_it_is_made_of_rests():
    module = nn.Sequential(Scale(4, 1, 1), conv(padding=1))
    graph = fold_batch_norm(capture(module, SHAPE))
    (node,) = [node for node in graph.nodes if node.op == "scale_channels"]
    assert node.params["factor"] not in graph.frozen
    module[0].gain.requires_grad_(False)
    graph = fold_batch_norm(capture(module, SHAPE))
    assert set(node.params.values()) <= graph.frozen


def test_a_table_a_channel_rounds_once():
    """real == level · scale within half a step, whatever the spread of the factors."""
    model, x = quantized(capture(nn.Sequential(nn.ReLU(), Scale(3, 1, 1)), (3, 8, 8)), 0)
    name = model.graph.output
    source = model.graph[name].inputs[0]
    trace = Simulation(lower(model, "float")).trace(x)
    read, made = model.qparams(source), model.qparams(name)
    reals = (torch.from_numpy(trace[source]).double() - read.zero_point) * read.scale
    factor, offset = (model.graph.roles(model.graph[name])[r].reshape(-1, 1, 1) for r in ("factor", "offset"))
    steps = (reals * factor + offset) / made.scale + made.zero_point
    inside = steps.clamp(made.quant_min, made.quant_max)
    assert (inside - torch.from_numpy(trace[name])).abs().max() <= 0.5 + 1e-4
