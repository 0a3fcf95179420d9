"""Every operator, in the ways that networks write it: captured without an island, simulation = program.

As a function and as a module, as a function of torch and as a method, in place and not.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.graph.lower import lower
from tests.quantizing import check_parity, fused, quantized

SHAPE = (3, 8, 8)
CAUSAL = torch.ones(64, 64).tril().bool()
ADDED = torch.zeros(64, 64).masked_fill(~CAUSAL, float("-inf"))


class Net(nn.Module):
    """A convolution to (4, 8, 8), and a body that is a module or a function of the value and a module."""

    def __init__(self, body, part=None):
        super().__init__()
        self.conv, self.body, self.part = nn.Conv2d(3, 4, 3, padding=1), body, part

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.body(x) if self.part is None else self.body(x, self.part)


def tokens(x):
    """(N, 4, 8, 8) to (N, 64, 4)."""
    return x.flatten(2).transpose(1, 2)


def rows(x):
    return x.flatten(2)


def mean(x):
    return x.mean((2, 3), keepdim=True)


SPELLINGS = {
    "broadcast sum": [lambda x: x + mean(x), lambda x: torch.add(x, mean(x)), lambda x: x.add_(mean(x))],
    "difference": [lambda x: x - mean(x), lambda x: torch.subtract(x, mean(x)), lambda x: x.sub_(mean(x))],
    "product": [lambda x: x * mean(x), lambda x: torch.mul(x, mean(x)), lambda x: x.multiply(mean(x))],
    "quotient": [lambda x: x / mean(x).exp(), lambda x: torch.div(x, mean(x).exp())],
    "maximum": [lambda x: torch.maximum(x, mean(x)), lambda x: torch.max(x, mean(x)), lambda x: x.fmax(-x)],
    "expand": [lambda x: x[:, :1].expand(-1, 4, -1, -1), lambda x: x[:, :1].expand_as(x)],
    "view_as": [lambda x: x.flatten(1).view_as(x), lambda x: x.flatten(1).reshape_as(x)],
    "stack": [lambda x: torch.stack([x, -x], 1), lambda x: torch.cat([x[:, None], -x[:, None]], 1)],
    "repeat": [lambda x: x.repeat(1, 2, 1, 1), lambda x: torch.tile(x, (1, 2, 1, 1))],
    "repeat entries": [lambda x: x.repeat_interleave(2, 1), lambda x: torch.repeat_interleave(x, 2, dim=3)],
    "roll": [lambda x: torch.roll(x, (1, 2), (2, 3)), lambda x: x.roll(-1, 1)],
    "index": [
        lambda x: x[:, [2, 0, 1]],
        lambda x: torch.index_select(x, 1, torch.tensor([1, 0])),
        lambda x: x.index_select(1, torch.tensor([1, 0])),
    ],
    "parts": [lambda x: x.narrow(1, 1, 2), lambda x: x[:, 1:3], lambda x: torch.split(x, [1, 2, 1], 1)[1]],
    "maxima": [lambda x: x.amax((2, 3)), lambda x: x.max(1)[0], lambda x: torch.max(x, dim=1).values],
    "minima": [lambda x: torch.amin(x, 1, keepdim=True), lambda x: x.min(2).values],
    "sum": [lambda x: x.sum((2, 3)), lambda x: torch.sum(x, 1), lambda x: torch.einsum("bchw->bc", x)],
    "prelu": [lambda x: F.prelu(x, torch.tensor([0.1])), nn.PReLU(), nn.PReLU(4)],
    "group norm": [lambda x: F.group_norm(x, 2), nn.GroupNorm(2, 4)],
    "instance norm": [F.instance_norm, nn.InstanceNorm2d(4, affine=True)],
    "layer norm": [lambda x: F.layer_norm(x, (8,)), nn.LayerNorm(8), nn.LayerNorm((4, 8, 8))],
    "rms norm": [
        lambda x: F.rms_norm(x, (8,)),
        nn.RMSNorm(8),
        nn.RMSNorm((8, 8)),
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda x: x / x.square().mean(1, keepdim=True).add(1e-5).sqrt(),
    ],
    "average pool": [
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        lambda x: F.avg_pool1d(rows(x), 3, 2, 1, ceil_mode=True),
    ],
    "adaptive pool": [
        lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
        nn.AdaptiveAvgPool2d((None, 5)),
        lambda x: F.adaptive_max_pool2d(x, 3),
        nn.AdaptiveMaxPool2d(5),
        nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(7)),
    ],
    "resize": [
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.UpsamplingBilinear2d(scale_factor=2),
        lambda x: F.interpolate(x, size=(5, 7), mode="bicubic"),
        nn.Upsample(size=(11, 5), mode="bicubic", align_corners=True),
        lambda x: F.interpolate(x, scale_factor=0.5, mode="area"),
    ],
    "pixel shuffle": [lambda x: F.pixel_shuffle(x, 2), nn.PixelShuffle(2), nn.PixelUnshuffle(2)],
    "channel shuffle": [
        lambda x: F.channel_shuffle(x, 2),
        nn.ChannelShuffle(2),
        lambda x: x.view(len(x), 2, 2, 8, 8).transpose(1, 2).contiguous().view(len(x), -1, 8, 8),
        lambda x: x.unflatten(1, (2, 2)).swapaxes(1, 2).flatten(1, 2),
    ],
    "l2 normalization": [
        lambda x: F.normalize(x, dim=1),
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
        lambda x: x / x.pow(2).sum(1, keepdim=True).sqrt().clamp_min(1e-6),
    ],
    "einsum": [
        lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
        lambda x: rows(x) @ rows(x).mT,
        lambda x: torch.bmm(rows(x), rows(x).transpose(1, 2)),
    ],
    "attention": [
        lambda x: F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x), is_causal=True),
        lambda x: F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x), attn_mask=CAUSAL),
        lambda x: F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x), attn_mask=ADDED),
        lambda x: (tokens(x) @ rows(x) / 2 + ADDED).softmax(-1) @ tokens(x),
        lambda x: (tokens(x) @ rows(x) / 2).masked_fill(~CAUSAL, float("-inf")).softmax(-1) @ tokens(x),
    ],
    "padding": [
        lambda x: F.pad(x, (1, 1, 1, 1), "reflect"),
        nn.ReflectionPad2d(1),
        lambda x: F.pad(x, (1, 1, 1, 1), value=0.5),
        nn.ConstantPad2d(1, 0.5),
        nn.ZeroPad2d(1),
    ],
    "no-op casts": [
        lambda x: x.float().contiguous().clone(),
        lambda x: x.to(torch.float32).type_as(x).detach(),
        lambda x: x.double().mean((2, 3)).float(),
    ],
    "root": [lambda x: torch.sqrt(x.abs()), lambda x: x.abs().sqrt(), lambda x: x.abs() ** 0.5],
    "softplus": [F.softplus, nn.Softplus()],
    "where": [
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: x.where(x > 0, torch.zeros_like(x)),
        lambda x: x.masked_fill(x < 0, 0),
    ],
    "glu": [lambda x: F.glu(x, 1), nn.GLU(1), lambda x: x[:, :2] * x[:, 2:].sigmoid()],
    "flip": [lambda x: x.flip(3), lambda x: torch.flip(x, (2, 3)), lambda x: torch.fliplr(x)],
    "weight norm": [
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)),
    ],
    "activations": [nn.RReLU(), F.silu, nn.Hardswish(), nn.Mish(), lambda x: torch.clip(x, -1, 1)],
    "batch norm": [
        nn.BatchNorm2d(4),
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)),
        nn.SyncBatchNorm(4),
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(256)),
        nn.Sequential(nn.Flatten(), nn.Linear(256, 6), nn.ReLU(), nn.BatchNorm1d(6), nn.Dropout()),
        nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(4, affine=False), nn.ReLU()),
    ],
}

MHA = {
    "weights": lambda x, a: a(tokens(x), tokens(x), tokens(x))[0],
    "no weights": lambda x, a: a(tokens(x), tokens(x), tokens(x), need_weights=False)[0],
    "truth mask": lambda x, a: a(tokens(x), tokens(x), tokens(x), attn_mask=~CAUSAL)[0],
    "added mask": lambda x, a: a(tokens(x), tokens(x), tokens(x), attn_mask=ADDED, is_causal=True)[0],
    "cross": lambda x, a: a(tokens(x), tokens(x)[:, :9], tokens(x)[:, :9])[0],
    "padding": lambda x, a: a(
        tokens(x), tokens(x), tokens(x), key_padding_mask=torch.zeros(len(x), 64).bool()
    )[0],
}


def agree(body, part=None):
    """Simulation and program give the same levels, and none of them is an island's."""
    torch.manual_seed(0)
    graph = fused(Net(body, part), SHAPE)
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    program = lower(quantized(graph, x), "float")
    assert [op.output for op in program.ops if op.op == "island"] == []
    check_parity(program, x)


@pytest.mark.parametrize(
    "body",
    [pytest.param(body, id=f"{name} {i}") for name, ways in SPELLINGS.items() for i, body in enumerate(ways)],
)
def test_it_is_captured_without_an_island_and_the_simulation_is_the_program(body):
    agree(body)


@pytest.mark.parametrize("name", MHA)
def test_multihead_attention(name):
    agree(MHA[name], nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True))


def test_multihead_attention_over_positions_first():
    def body(x, attention):
        first = x.flatten(2).permute(2, 0, 1)
        return attention(first, first, first)[0].transpose(0, 1)

    agree(body, nn.MultiheadAttention(4, 2))


@pytest.mark.parametrize(
    "layer",
    [
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True, activation="gelu"),
    ],
)
def test_encoder_layers_of_torch(layer):
    agree(lambda x, layer: layer(tokens(x)), layer)


@pytest.mark.parametrize(
    "last",
    [
        lambda x: F.log_softmax(x.flatten(1), 1),
        nn.Sequential(nn.Flatten(), nn.LogSoftmax(-1)),
        nn.Sequential(nn.Flatten(), nn.Softmax(1)),
        lambda x: {"logits": torch.log_softmax(x.mean((2, 3)), dim=1), "features": x},
    ],
)
def test_softmax_at_the_end(last):
    agree(last)
