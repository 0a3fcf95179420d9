"""Residual networks for CIFAR-10: depth 6n+2, 16/32/64 channels (He et al. 2015, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.images import require_image
from stages.models.weights import load_weights, weights_fingerprint


@dataclass(frozen=True, kw_only=True)
class ResNetCifar:
    """ResNet-20, -32, -44 or -56 with shortcuts of option A, that is, without parameters.

    Args:
        depth: 6n+2 layers, n basic blocks a stage.
        weights: file of trained weights, or None. Keys: conv1, bn1,
            layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}, linear.
        key: under which key of the file they stand; None where that is clear.
    """

    depth: Literal[20, 32, 44, 56] = 20
    weights: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.depth not in (20, 32, 44, 56):
            raise ValueError(f"depth={self.depth}: must be 20, 32, 44 or 56")

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """269,722 parameters at depth 20 for ten classes."""
        channels, *_ = require_image(shape, f"ResNet-{self.depth}")
        module = ResNet((self.depth - 2) // 6, channels, num_classes)
        return load_weights(module, self.weights, f"resnet{self.depth}", self.key)

    def fingerprint(self) -> str:
        """The sha256 of the weights file."""
        return weights_fingerprint(self.weights)


class BasicBlock(nn.Module):
    """``relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))``.

    Where the block halves the resolution, the shortcut takes every second pixel and pads zero channels,
    as many before as behind.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.narrows = stride != 1
        self.padding = (channels - in_channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, ⌈H/s⌉, ⌈W/s⌉)."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.narrows:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return torch.relu(y + x)


class ResNet(nn.Module):
    """Three stages of `blocks` basic blocks, global average pooling, one linear layer."""

    def __init__(self, blocks: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (N, C, H, W) to logits (N, num_classes)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))
