"""MobileNet in miniature for images of 8×8 pixels: what is hard to quantize about it, in seconds.

Depthwise-separable blocks with BatchNorm and ReLU6, whose folded channels have very different ranges;
global average pooling; one linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from stages.models.images import require_image
from stages.models.layers import conv_bn_relu6, depthwise_separable
from stages.models.weights import load_weights, weights_fingerprint

STEM = 16
BLOCKS = ((32, 1), (64, 2), (64, 1), (128, 2))
"""Output channels and stride of each block."""


@dataclass(frozen=True, kw_only=True)
class MobileNetDigits:
    """Four depthwise-separable blocks, 18,826 parameters for ten classes.

    Args:
        weights: file of trained weights, or None.
        key: under which key of the file they stand; None where that is clear.
    """

    weights: str | None = None
    key: str | None = None

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Any image size works; 8×8 leaves 2×2 to pool."""
        channels, *_ = require_image(shape, "MobileNet")
        features = nn.Sequential(conv_bn_relu6(channels, STEM))
        channels = STEM
        for out_channels, stride in BLOCKS:
            features.append(depthwise_separable(channels, out_channels, stride))
            channels = out_channels
        module = nn.Sequential()
        module.add_module("features", features)
        module.add_module("pool", nn.AdaptiveAvgPool2d(1))
        module.add_module("flatten", nn.Flatten())
        module.add_module("classifier", nn.Linear(channels, num_classes))
        return load_weights(module, self.weights, "mobilenet_digits", self.key)

    def fingerprint(self) -> str:
        """The sha256 of the weights file."""
        return weights_fingerprint(self.weights)
