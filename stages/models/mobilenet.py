"""MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018), for ImageNet and for small images."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from stages.models.images import require_image
from stages.models.layers import conv_bn_relu6, depthwise_separable, initialize
from stages.models.weights import load_weights, weights_fingerprint

V1_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""Output channels and stride of each depthwise-separable block, table 1 of the paper."""

V2_BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, output channels, repetitions, first stride: table 2 of the paper."""

DROPOUT = 0.2


@dataclass(frozen=True, kw_only=True)
class MobileNetV1:
    """4,231,976 parameters at width 1 for 1000 classes.

    Args:
        width: multiplies the channels of all layers.
        stem_stride: of the first convolution; 2 for 224×224, 1 for small images.
        first_stride: of the first block that halves the resolution; 1 for 32×32.
        weights: file of trained weights, or None.
        key: under which key of the file they stand; None where that is clear.
    """

    width: float = 1.0
    stem_stride: Literal[1, 2] = 2
    first_stride: Literal[1, 2] = 2
    weights: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        _check(self.width, self.stem_stride, self.first_stride)

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Convolution, thirteen depthwise-separable blocks, global average pooling, linear."""
        channels = _round_channels(32 * self.width)
        inputs, *_ = require_image(shape, "MobileNet")
        features = nn.Sequential(conv_bn_relu6(inputs, channels, 3, self.stem_stride))
        strides = _strides([stride for _, stride in V1_BLOCKS], self.first_stride)
        for (base, _), stride in zip(V1_BLOCKS, strides, strict=True):
            out_channels = _round_channels(base * self.width)
            features.append(depthwise_separable(channels, out_channels, stride))
            channels = out_channels
        module = initialize(_classifier(features, channels, num_classes))
        return load_weights(module, self.weights, f"mobilenet_v1 with width={self.width}", self.key)

    def fingerprint(self) -> str:
        """The sha256 of the weights file."""
        return weights_fingerprint(self.weights)


@dataclass(frozen=True, kw_only=True)
class MobileNetV2:
    """3,504,872 parameters at width 1 for 1000 classes; keys as torchvision's, whose weights load.

    Args:
        width: multiplies the channels of all layers; the last convolution has at least 1280.
        stem_stride: of the first convolution; 2 for 224×224, 1 for small images.
        first_stride: of the first block that halves the resolution; 1 for 32×32.
        weights: file of trained weights, or None.
        key: under which key of the file they stand; None where that is clear.
    """

    width: float = 1.0
    stem_stride: Literal[1, 2] = 2
    first_stride: Literal[1, 2] = 2
    weights: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        _check(self.width, self.stem_stride, self.first_stride)

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Convolution, seventeen inverted residuals, 1×1 convolution, global average pooling, linear."""
        channels = _round_channels(32 * self.width)
        inputs, *_ = require_image(shape, "MobileNet")
        features = nn.Sequential(conv_bn_relu6(inputs, channels, 3, self.stem_stride))
        strides = _strides([stride for *_, stride in V2_BLOCKS], self.first_stride)
        for (expansion, base, repeats, _), first in zip(V2_BLOCKS, strides, strict=True):
            for stride in (first, *(1,) * (repeats - 1)):
                out_channels = _round_channels(base * self.width)
                features.append(InvertedResidual(channels, out_channels, stride, expansion))
                channels = out_channels
        last = _round_channels(1280 * max(1.0, self.width))
        features.append(conv_bn_relu6(channels, last, 1))
        module = initialize(_classifier(features, last, num_classes))
        return load_weights(module, self.weights, f"mobilenet_v2 with width={self.width}", self.key)

    def fingerprint(self) -> str:
        """The sha256 of the weights file."""
        return weights_fingerprint(self.weights)


class InvertedResidual(nn.Module):
    """Expand 1×1, filter channels 3×3, project 1×1 without activation; add x where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [conv_bn_relu6(in_channels, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, ⌈H/s⌉, ⌈W/s⌉)."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


def _classifier(features: nn.Sequential, channels: int, num_classes: int) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            features=features,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(channels, num_classes)),
        )
    )


def _strides(strides: list[int], first_stride: int) -> list[int]:
    """The strides of the table, with `first_stride` in place of the first 2."""
    position = strides.index(2)
    return [*strides[:position], first_stride, *strides[position + 1 :]]


def _round_channels(channels: float, multiple: int = 8) -> int:
    """To the nearest multiple of 8, but not below 90 % of the number asked for."""
    rounded = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * channels else rounded


def _check(width: float, stem_stride: int, first_stride: int) -> None:
    if not width > 0.0:
        raise ValueError(f"width={width}: must be positive; 1.0 is the paper's network")
    for name, stride in (("stem_stride", stem_stride), ("first_stride", first_stride)):
        if stride not in (1, 2):
            raise ValueError(f"{name}={stride}: must be 1 or 2")
