"""Blocks: a partition of the nodes, cut where a single value passes."""

import pytest
import torch
from torch import nn

from stages.graph.blocks import blocks
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.operators.registry import is_layer
from stages.graph.residual import with_copies
from stages.models.resnet_cifar import ResNetCifar


def fused(module, shape):
    with torch.no_grad():
        return fuse(fold_batch_norm(capture(module.eval(), shape)))


def layers_of(graph, largest=12):
    """The layers of each block, by name; checks that blocks are all nodes but the input, in order."""
    found = blocks(graph, largest)
    assert sum(found, ()) == graph.nodes[1:]
    return [[node.name for node in block if is_layer(node)] for block in found]


def test_a_residual_block_reaches_from_the_split_to_the_sum():
    graph = fused(ResNetCifar(depth=20).build((3, 8, 8), 10), (3, 8, 8))
    pairs = [[f"layer{i}.{j}.conv1", f"layer{i}.{j}.conv2"] for i in (1, 2, 3) for j in (0, 1, 2)]
    assert layers_of(graph) == [["conv1"], *pairs, ["linear"]]


def test_a_copy_of_the_stream_belongs_to_the_block_that_reads_it():
    graph = with_copies(fused(ResNetCifar(depth=20).build((3, 8, 8), 10), (3, 8, 8)), 8)
    first = blocks(graph, 12)[1]
    assert [node.name for node in first] == ["conv1.operand", "layer1.0.conv1", "layer1.0.conv2"]


class Inverted(nn.Module):
    """Two inverted residuals, the second with a shortcut, behind a stem and before a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first = nn.ModuleList(self._layers(4, 6, 2))
        self.second = nn.ModuleList(self._layers(6, 6, 1))
        self.head = nn.Conv2d(6, 10, 1)

    def _layers(self, inputs, outputs, stride):
        wide = 2 * inputs
        yield nn.Conv2d(inputs, wide, 1)
        yield nn.Conv2d(wide, wide, 3, stride, 1, groups=wide)
        yield nn.Conv2d(wide, outputs, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for layers in (self.first, self.second):
            y = layers[2](torch.relu(layers[1](torch.relu(layers[0](x)))))
            x = x + y if y.shape == x.shape else y
        return self.head(x).mean((2, 3))


def test_an_inverted_residual_is_a_block_with_and_without_a_shortcut():
    first, second = ([f"{name}.{i}" for i in range(3)] for name in ("first", "second"))
    assert layers_of(fused(Inverted(), (3, 8, 8))) == [["stem"], first, second, ["head"]]


def test_separable_convolutions_are_blocks_of_two():
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU()]
    for inputs, outputs in ((8, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, inputs, 3, groups=inputs), nn.ReLU()]
        layers += [nn.Conv2d(inputs, outputs, 1), nn.ReLU()]
    assert layers_of(fused(nn.Sequential(*layers), (3, 12, 12))) == [["0"], ["2", "4"], ["6", "8"]]


class Encoder(nn.Module):
    """Two layers of a transformer over embedded tokens, with a mask of what is padding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.parts = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(8),
                    **{name: nn.Linear(8, 8) for name in ("q", "k", "v", "out")},
                    "norm2": nn.LayerNorm(8),
                    "up": nn.Linear(8, 16),
                    "down": nn.Linear(16, 8),
                }
            )
            for _ in range(2)
        )

    def forward(self, tokens):
        x = self.embed(tokens)
        for p in self.parts:
            y = p["norm"](x)
            attention = (p["q"](y) @ p["k"](y).transpose(1, 2) * 0.3).softmax(dim=-1)
            x = x + p["out"](attention @ p["v"](y))
            x = x + p["down"](torch.nn.functional.gelu(p["up"](p["norm2"](x))))
        return x.mean(dim=1)


def test_attention_and_mlp_are_blocks():
    with torch.no_grad():
        graph = fuse(fold_batch_norm(capture(Encoder().eval(), (5,), dtype=torch.int64)))
    found = layers_of(graph)
    assert found[-3:] == [
        ["parts.0.up", "parts.0.down"],
        [f"parts.1.{name}" for name in ("q", "k", "v", "out")],
        ["parts.1.up", "parts.1.down"],
    ]


class Dense(nn.Module):
    """All values are read by all later layers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 2 * i, 2, 1) for i in range(5))

    def forward(self, x):
        values = [x]
        for layer in self.layers:
            values.append(torch.relu(layer(torch.cat(values, 1))))
        return torch.cat(values, 1).mean((2, 3))


@pytest.mark.parametrize("largest", [1, 2, 4])
def test_a_block_with_too_many_layers_is_divided(largest):
    found = layers_of(fused(Dense(), (3, 4, 4)), largest)
    assert found == [[f"layers.{i}"] for i in range(5)]
    assert layers_of(fused(Dense(), (3, 4, 4)), 5) == [[f"layers.{i}" for i in range(5)]]
    names = [[name] for block in layers_of(fused(Inverted(), (3, 8, 8)), largest=1) for name in block]
    assert layers_of(fused(Inverted(), (3, 8, 8)), largest=1) == names


def test_a_network_without_layers_is_one_block():
    graph = fused(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (3, 4, 4))
    assert layers_of(graph) == [[]]
