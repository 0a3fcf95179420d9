"""Networks with what channels can be tied by, and random ones of such parts."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """A shortcut: identity, a projection, or pixels and zero channels (option A of He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(inputs, 7, 3, stride, 1), nn.BatchNorm2d(7), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(7, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        pads = (self.more // 2, self.more - self.more // 2)
        return torch.relu(self.second(self.first(x)) + F.pad(shortcut, (0, 0, 0, 0, *pads)))


class Gate(nn.Module):
    """Squeeze and excitation; a sigmoid of 0 is no 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 5, 1), nn.Conv2d(5, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class Dense(nn.Module):
    """A concatenation that later layers read parts of (Huang et al. 2017)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.grow = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, growth, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.grow(x), x], 1)


class Split(nn.Module):
    """Halves, of which one goes through a layer, and a shuffle of channels (Ma et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels // 2, channels // 2, 1), nn.Hardswish())

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        y = torch.stack([first, self.branch(second)], 2)
        return y.flatten(1, 2)


class Shuffled(nn.Module):
    """Channels become pixels (Shi et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, 4 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pixel_shuffle(self.widen(x), 2), 2)


class Attention(nn.Module):
    """Tokens, of which heads or one head attend to each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 9), nn.Linear(9, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, width = x.shape
        y = self.qkv(self.norm(x)).reshape(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*y.unbind(0)).transpose(1, 2).reshape(n, t, width)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(x)))


class Tokens(nn.Module):
    """Images to tokens, attention, and the mean over them."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(16, channels))
        self.attention = Attention(channels, heads)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 4).flatten(2).transpose(1, 2) + self.position
        return self.attention(x).mean(1)


def random_network(seed: int) -> nn.Module:
    """(N, 3, 8, 8) to (N, 4), of three to six parts; BatchNorm has seen something."""
    rng = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = rng.choice([8, 12])
        parts: list[nn.Module] = [
            nn.Conv2d(3, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            rng.choice([nn.ReLU(), nn.SiLU(), nn.Sigmoid(), nn.PReLU(channels), nn.Identity()]),
        ]
        for _ in range(rng.randint(3, 6)):
            part, channels = _part(rng, channels)
            parts.append(part)
        parts += _head(rng, channels)
        module = nn.Sequential(*parts).eval()
        for own in module.modules():
            if isinstance(own, nn.BatchNorm2d):
                own.running_mean.normal_()
                own.running_var.uniform_(0.5, 2.0)
                own.weight.data.normal_()
                own.bias.data.normal_()
            elif isinstance(own, nn.GroupNorm | nn.LayerNorm):
                own.weight.data.normal_()
                own.bias.data.normal_()
    return module


def _part(rng: random.Random, channels: int) -> tuple[nn.Module, int]:
    wider = channels + rng.choice([0, 4])
    return rng.choice(
        [
            (Residual(channels, channels, 1), channels),
            (Residual(channels, wider, rng.choice([1, 2])), wider),
            (Gate(channels), channels),
            (Dense(channels, 4), channels + 4),
            (Split(channels), channels),
            (Shuffled(channels), channels),
            (nn.Conv2d(channels, channels, 3, padding=1, groups=channels), channels),
            (nn.Conv2d(channels, 2 * channels, 3, padding=1, groups=channels), 2 * channels),
            (nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1, groups=4), nn.Sigmoid()), 8),
            (nn.Sequential(nn.Conv2d(channels, wider, 1), nn.GroupNorm(4, wider), nn.ReLU6()), wider),
            (nn.Sequential(nn.Conv2d(channels, wider, 1), nn.Softplus(), nn.Conv2d(wider, 8, 1)), 8),
            (nn.Sequential(nn.Upsample(scale_factor=2), nn.MaxPool2d(3, 2, 1)), channels),
            (nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.ConvTranspose2d(channels, 8, 2, 2)), 8),
        ]
    )


def _head(rng: random.Random, channels: int) -> list[nn.Module]:
    return rng.choice(
        [
            [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)],
            [
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(4 * channels, 6),
                nn.Sigmoid(),
                nn.Linear(6, 4),
            ],
            [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(4 * channels), nn.Linear(4 * channels, 4)],
            [Tokens(channels, rng.choice([1, 2])), nn.Linear(channels, 4)],
        ]
    )
