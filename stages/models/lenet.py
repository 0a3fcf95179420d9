"""LeNet-5 and LeNet-300-100 as Caffe defines them, which Deep Compression (Han et al. 2016) compresses."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import prod

from torch import nn

from pipeline.errors import PipelineError
from stages.models.images import require_image
from stages.models.weights import load_weights, weights_fingerprint

SMALLEST = 16
"""Pixels a side that two 5×5 convolutions and two poolings leave something of."""


@dataclass(frozen=True, kw_only=True)
class LeNet5:
    """Two 5×5 convolutions of 20 and 50 channels, each max-pooled, then 500 units: 431,080 parameters.

    Args:
        weights: file of trained weights (keys conv1, conv2, fc1, fc2), or None.
        key: under which key of the file they stand; None where that is clear.
    """

    weights: str | None = None
    key: str | None = None

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """As in Caffe, the only activation function is the ReLU between the linear layers."""
        channels, height, width = require_image(shape, "LeNet-5")
        if min(height, width) < SMALLEST:
            raise PipelineError(
                f"LeNet-5 needs images of at least {SMALLEST}×{SMALLEST} pixels, not {height}×{width}.\n"
                "Remedy: choose data=mnist, or for small images model=mobilenet_digits."
            )
        after = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
        layers = [
            ("conv1", nn.Conv2d(channels, 20, 5)),
            ("pool1", nn.MaxPool2d(2)),
            ("conv2", nn.Conv2d(20, 50, 5)),
            ("pool2", nn.MaxPool2d(2)),
            ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(50 * prod(after), 500)),
            ("relu1", nn.ReLU()),
            ("fc2", nn.Linear(500, num_classes)),
        ]
        return load_weights(nn.Sequential(OrderedDict(layers)), self.weights, "lenet5", self.key)

    def fingerprint(self) -> str:
        """The sha256 of the weights file."""
        return weights_fingerprint(self.weights)


@dataclass(frozen=True, kw_only=True)
class LeNet300100:
    """A perceptron with 300 and 100 hidden units: 266,610 parameters on MNIST.

    Args:
        weights: file of trained weights (keys fc1, fc2, fc3), or None.
        key: under which key of the file they stand; None where that is clear.
    """

    weights: str | None = None
    key: str | None = None

    def build(self, shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Pixels are flattened in the order (C, H, W)."""
        layers = [
            ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(prod(shape), 300)),
            ("relu1", nn.ReLU()),
            ("fc2", nn.Linear(300, 100)),
            ("relu2", nn.ReLU()),
            ("fc3", nn.Linear(100, num_classes)),
        ]
        return load_weights(nn.Sequential(OrderedDict(layers)), self.weights, "lenet300_100", self.key)

    def fingerprint(self) -> str:
        """The sha256 of the weights file."""
        return weights_fingerprint(self.weights)
