"""Small networks for images of 8×8 pixels with what newer architectures are made of; used by whole runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedBlock(nn.Module):
    """MobileNet-v3's: expand, depthwise, squeeze-and-excite, project, add (Howard et al. 2019)."""

    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(channels, expanded, 1, bias=False), nn.BatchNorm2d(expanded))
        self.depthwise = nn.Sequential(
            nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded, bias=False), nn.BatchNorm2d(expanded)
        )
        self.squeeze, self.excite = nn.Conv2d(expanded, 8, 1), nn.Conv2d(8, expanded, 1)
        self.project = nn.Sequential(nn.Conv2d(expanded, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.depthwise(F.hardswish(self.expand(x))))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return x + self.project(y * gate)


class TransformerBlock(nn.Module):
    """Pre-norm, one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Patches(nn.Module):
    """(N, C, H, W) to (N, positions, width)."""

    def __init__(self, channels: int, width: int, positions: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, 2, stride=2)
        self.position = nn.Parameter(0.5 * torch.randn(positions, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x).flatten(2).transpose(1, 2) + self.position


class MeanOverPositions(nn.Module):
    """(N, positions, width) to (N, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


@dataclass(frozen=True, kw_only=True)
class Gated:
    """A MobileNet-v3 in miniature."""

    weights: str | None = None

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(shape[0], 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.Hardswish(),
            GatedBlock(16, 32),
            GatedBlock(16, 48),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 32),
            nn.Hardswish(),
            nn.Linear(32, num_classes),
        )

    def fingerprint(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """A vision transformer in miniature."""

    weights: str | None = None

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        return nn.Sequential(
            Patches(shape[0], 24, shape[1] * shape[2] // 4),
            TransformerBlock(24),
            nn.LayerNorm(24),
            MeanOverPositions(),
            nn.Linear(24, num_classes),
        )

    def fingerprint(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """Layers that have no names but their numbers, as those of any nn.Sequential."""

    width: int = 16
    weights: str | None = None

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """(N, C, 8, 8) to logits."""
        return nn.Sequential(
            nn.Conv2d(shape[0], self.width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(self.width * shape[1] * shape[2], num_classes),
        )

    def fingerprint(self) -> str:
        return ""
