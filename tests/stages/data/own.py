"""A user's own module: networks for inputs that are no images, and a Dataset."""

from __future__ import annotations

import numpy as np
from torch import nn
from torch.utils.data import Dataset


class KeywordSpotting(nn.Sequential):
    """DS-CNN in miniature, for 49 frames of 10 coefficients (Zhang et al., Hello Edge, 2017)."""

    def __init__(self, words: int) -> None:
        super().__init__(
            nn.Conv2d(1, 8, (10, 4), stride=(2, 2), padding=(5, 1)), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, words),
        )  # fmt: skip


class Sensor(nn.Sequential):
    """Convolutions over time."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(
            nn.Conv1d(channels, 8, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
            nn.Linear(8, outputs),
        )  # fmt: skip


class Words(nn.Module):
    """The mean of tokens' vectors."""

    def __init__(self, words: int, outputs: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, 8)
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.table(x).mean(1))


class Perceptron(nn.Sequential):
    """Two layers over features."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, outputs))


class Pictures(nn.Sequential):
    """Two layers over 8×8 gray pixels."""

    def __init__(self, outputs: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, outputs))


def signals(shape: tuple[int, ...], classes: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise over a pattern of each class; the patterns are the same for every seed."""
    patterns = np.random.default_rng(7).normal(size=(classes, *shape))
    labels = np.arange(count) % classes
    noise = np.random.default_rng(seed).normal(scale=0.5, size=(count, *shape))
    return (patterns[labels] + noise).astype(np.float32), labels


class Features(Dataset):
    """Signals as a Dataset."""

    def __init__(self, seed: int, count: int = 90) -> None:
        self.inputs, self.labels = signals((12,), 3, count, seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int):
        return self.inputs[row], int(self.labels[row])
