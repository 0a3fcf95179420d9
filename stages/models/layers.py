"""Blocks that the MobileNets share."""

from __future__ import annotations

from torch import nn


def conv_bn_relu6(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ``min(max(x, 0), 6)``; (N, C, H, W) to (N, O, ⌈H/s⌉, ⌈W/s⌉)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


def depthwise_separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A 3×3 filter on each channel, then a 1×1 convolution across channels (Howard et al. 2017)."""
    return nn.Sequential(
        conv_bn_relu6(in_channels, in_channels, 3, stride, groups=in_channels),
        conv_bn_relu6(in_channels, out_channels, 1),
    )


def initialize(module: nn.Module) -> nn.Module:
    """He-normal convolutions, small linear weights, zero biases; returns `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
            nn.init.zeros_(layer.bias)
    return module
