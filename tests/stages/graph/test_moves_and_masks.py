"""Moving, resampling and attention: captured, lowered, and the same integers in simulation and program."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fuse import fuse
from stages.graph.lower import lower, lower_node
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import Simulation
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from tests.stages.graph.test_lower import SHAPE, calibrated
from tests.stages.graph.test_simulate import MODES, compare

CAUSAL = torch.ones(8, 8).tril().bool()
BLOCKS = torch.zeros(8, 8)
BLOCKS[:4, 4:], BLOCKS[4:, :4] = -100.0, -100.0
BIASED = torch.linspace(-2, 2, 64).reshape(8, 8) + torch.where(CAUSAL, 0.0, float("-inf"))


class Body(nn.Module):
    """A convolution to (4, 8, 8), and a function of it that may read a buffer."""

    def __init__(self, body, **buffers):
        super().__init__()
        self.conv, self.body = nn.Conv2d(3, 4, 3, padding=1), body
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x):
        named = dict(self.named_buffers())
        return self.body(self.conv(x), **named)


def scores(x):
    return x @ x.transpose(-1, -2)


def windows(x):
    return x.flatten(2)


MOVES = {
    "index_select": (lambda x, i: x.index_select(2, i), {"i": torch.tensor([3, 0, 0, 7])}),
    "index": (lambda x, i: x[:, i], {"i": torch.tensor([[2, 1], [0, -1]])}),
    "index of two axes": (
        lambda x, i, j: x[:, :, i, j],
        {"i": torch.tensor([[0], [5]]), "j": torch.tensor([1, 2, 7])},
    ),
    "flip": (lambda x: x.flip(1, -1), {}),
    "roll": (lambda x: x.roll((-3, 2), (2, 3)), {}),
    "repeat": (lambda x: x.repeat(1, 2, 1, 3), {}),
    "tile": (lambda x: x.tile(1, 1, 2, 1), {}),
    "repeat_interleave of samples": (
        lambda x: (
            x.repeat_interleave(3, 0).unflatten(0, (-1, 3)) + x.flip(1)[:, None].expand(-1, 3, -1, -1, -1)
        ),
        {},
    ),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, 1), {}),
    "reflection": (lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), {}),
    "replication": (lambda x: F.pad(x, (0, 2, 1, 1), mode="replicate"), {}),
    "circular": (lambda x: F.pad(x, (2, 1, 0, 3), mode="circular"), {}),
    "reflection of sequences": (lambda x: F.pad(windows(x), (5, 3), mode="reflect"), {}),
    "nearest": (lambda x: F.interpolate(x, size=(5, 13)), {}),
    "nearest exact": (lambda x: F.interpolate(x, size=(13, 3), mode="nearest-exact"), {}),
    "nearest by a factor": (lambda x: F.interpolate(x, scale_factor=1.7), {}),
    "nearest of sequences": (lambda x: F.interpolate(windows(x), size=50), {}),
    "expand": (lambda x: x[:, :, :1].expand(-1, -1, 5, -1), {}),
    "stack": (lambda x: torch.stack([x, x.flip(1)], 2), {}),
    "stack behind": (lambda x: torch.stack([x[:, 0], x[:, 1], x[:, 2]], -1), {}),
    "channel shuffle": (nn.ChannelShuffle(2), {}),
    "pixel shuffle": (nn.PixelShuffle(2), {}),
    "pixel unshuffle": (nn.PixelUnshuffle(4), {}),
    "columns": (lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=2), {}),
    "unfold": (lambda x: x.unfold(2, 4, 2), {}),
    "maxima and places": (lambda x: F.max_pool2d(x, 3, return_indices=True)[0], {}),
    "adaptive maxima": (lambda x: F.adaptive_max_pool2d(x, (3, 5)), {}),
    "adaptive maxima of sequences": (lambda x: F.adaptive_max_pool1d(windows(x), 7), {}),
}

WEIGHTED = {
    "padding with a number": (lambda x: F.pad(x, (1, 2, 0, 3), value=0.7), {}),
    "padding that cuts off": (lambda x: F.pad(x, (-1, 2, 1, -2)), {}),
    "ceil_mode": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), {}),
    "ceil_mode without padding": (
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        {},
    ),
    "count_include_pad": (lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 1), count_include_pad=False), {}),
    "divisor_override": (lambda x: F.avg_pool2d(x, 3, 2, divisor_override=7), {}),
    "adaptive averages": (lambda x: F.adaptive_avg_pool2d(x, (3, 5)), {}),
    "adaptive averages of sequences": (lambda x: F.adaptive_avg_pool1d(windows(x), 7), {}),
    "averages of sequences": (lambda x: F.avg_pool1d(windows(x), 5, 3, 2, count_include_pad=False), {}),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), {}),
    "bilinear corners": (lambda x: F.interpolate(x, size=(5, 11), mode="bilinear", align_corners=True), {}),
    "bicubic": (lambda x: F.interpolate(x, size=(13, 7), mode="bicubic"), {}),
    "antialiased": (lambda x: F.interpolate(x, size=(3, 5), mode="bilinear", antialias=True), {}),
    "linear": (lambda x: F.interpolate(windows(x), size=23, mode="linear"), {}),
}

ATTENDING = {
    "broadcast product": (lambda x: x @ x[:, :1].transpose(-1, -2), {}),
    "product of unequal ranks": (lambda x, w: w @ x, {"w": torch.rand(4, 5, 8)}),
    "product by a constant": (lambda x, w: x @ w, {"w": torch.rand(4, 8, 5)}),
    "bmm": (lambda x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2)), {}),
    "baddbmm": (
        lambda x: torch.baddbmm(x[:, 0], x[:, 1], x[:, 2], beta=0.5, alpha=0.25),
        {},
    ),
    "addmm": (
        lambda x, b, w: torch.addmm(b, x.flatten(1), w, alpha=0.5, beta=2.0),
        {"b": torch.rand(6), "w": torch.rand(256, 6)},
    ),
    "einsum": (lambda x: torch.einsum("bchw,bdhw->bcd", x, x), {}),
    "einsum of a batch": (lambda x: torch.einsum("bhid,bhjd->bhij", x, x), {}),
    "einsum by a constant": (lambda x, w: torch.einsum("bchw,hwk->bkc", x, w), {"w": torch.rand(8, 8, 5)}),
    "causal": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), {}),
    "truth mask": (lambda x, m: F.scaled_dot_product_attention(x, x, x, attn_mask=m), {"m": CAUSAL}),
    "added mask": (lambda x, m: F.scaled_dot_product_attention(x, x, x, attn_mask=m), {"m": BIASED}),
    "grouped queries": (
        lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 2:], is_causal=True, enable_gqa=True),
        {},
    ),
    "masked_fill": (lambda x, m: scores(x).masked_fill(m, float("-inf")).softmax(-1) @ x, {"m": ~CAUSAL}),
    "where": (lambda x, m: torch.where(m, scores(x), -1e9).softmax(-1) @ x, {"m": CAUSAL}),
    "filled with 0": (lambda x, m: scores(x).masked_fill(m, 0.0), {"m": ~CAUSAL}),
    "windows": (lambda x, m: (scores(x) + m).softmax(-1) @ x, {"m": BLOCKS}),
    "windows in another shape": (
        lambda x, m: (scores(x) + m).reshape(-1, 2, 2, 8, 8).softmax(-1),
        {"m": BLOCKS},
    ),
    "computed truth": (lambda x: scores(x).masked_fill(x < -0.5, -1e9).softmax(-1), {}),
    "computed truth of attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=x[:, :1] > -0.5),
        {},
    ),
    "computed truth and constant": (
        lambda x, m: scores(x).masked_fill(~((x[:, :, :1] > -50.0) & m), -1e9).softmax(-1),
        {"m": CAUSAL},
    ),
    "computed truths": (
        lambda x: scores(x).masked_fill((x < -0.5) & (x[:, :1] < 0.5), -1e9).softmax(-1),
        {},
    ),
    "computed": (lambda x: (scores(x) + (1 - F.hardsigmoid(x * 1e5)) * -1e6).softmax(-1), {}),
}

ALL = {**MOVES, **WEIGHTED, **ATTENDING}


@cache
def captured(name):
    torch.manual_seed(0)
    body, buffers = ALL[name]
    return capture(Body(body, **buffers), SHAPE)


def model_of(name, activation=None):
    """Quantized with the module's own buffers, and samples."""
    x = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(1))
    return calibrated(fuse(captured(name)), x, activation=activation or Affine(bits=8)), x


@pytest.mark.parametrize("name", ALL)
def test_the_simulation_is_the_program(name):
    for activation in (Affine(bits=8), Symmetric(bits=4)):
        (model, _), x = model_of(name, activation)
        for mode in MODES:
            compare(lower(model, mode), x)


@pytest.mark.parametrize("name", ALL)
def test_fusion_leaves_the_float_function(name):
    """What is masked by a large number is left out; the others are as they were, to float32's rounding."""
    graph = captured(name)
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(execute(fuse(graph), x), execute(graph, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*WEIGHTED, *(name for name in ATTENDING if "computed" not in name)])
def test_integers_are_near_the_float_network(name):
    """Relative to the largest output: 8 bits a value, and values of softmax and products in between."""
    (model, _), x = model_of(name)
    program = lower(model, "float")
    real = Simulation(program)(x)
    expected = execute(model.graph, x)
    assert (real - expected).abs().max() < 0.06 * expected.abs().max()


@pytest.mark.parametrize(
    "name", [name for name in MOVES if name not in ("columns", "repeat_interleave of samples")]
)
def test_what_moves_keeps_the_levels(name):
    (model, _), x = model_of(name)
    trace = Simulation(lower(model, "float")).trace(x)
    source = trace["conv"].astype(np.float32)
    moved = execute(model.graph, x, lambda node, v: torch.from_numpy(source) if node.name == "conv" else v)
    if "concat" not in {node.op for node in model.graph.nodes}:
        assert (moved.numpy() == trace[model.graph.output]).all()


def kept(graph):
    """By softmax, the operator that says what it keeps, and the value's shape."""
    return [
        (graph[node.inputs[1]].op, graph[node.inputs[1]].shape)
        for node in graph.nodes
        if node.op == "softmax" and len(node.inputs) == 2
    ]


@pytest.mark.parametrize(
    ("name", "expected", "adds"),
    [
        ("masked_fill", ("constant", (1, 8, 8)), 0),
        ("where", ("constant", (1, 8, 8)), 0),
        ("windows", ("constant", (1, 8, 8)), 0),
        ("windows in another shape", ("constant", (1, 1, 8, 8)), 0),
        ("causal", ("constant", (1, 8, 8)), 0),
        ("truth mask", ("constant", (1, 8, 8)), 0),
        ("added mask", ("constant", (1, 8, 8)), 1),
        ("computed", ("table", (4, 8, 8)), 0),
        ("computed truth", ("table", (4, 8, 8)), 0),
        ("computed truth of attention", ("table", (1, 8, 8)), 0),
    ],
)
def test_masks_become_the_second_input_of_a_softmax(name, expected, adds):
    graph = fuse(captured(name))
    assert kept(graph) == [expected]
    assert sum(node.op == "add" for node in graph.nodes) == adds
    assert not any(node.op == "mask" for node in graph.nodes)


def test_masked_entries_are_zero_in_every_mode():
    (model, _), x = model_of("causal")
    softmax = next(node.name for node in model.graph.nodes if node.op == "softmax")
    for mode in MODES:
        program = lower(model, mode)
        zero_point = program.values[softmax].zero_point
        levels = Simulation(program).trace(x)[softmax]
        assert (levels[..., ~CAUSAL.numpy()] == zero_point).all()
        assert (levels[:, :, 0, 0] > zero_point).all()


def read_twice(x, m):
    masked = scores(x).masked_fill(m, -1e9)
    return masked.softmax(-1) + masked.relu()


def test_a_mask_that_not_only_softmaxes_read_is_refused():
    graph = fuse(capture(Body(read_twice, m=~CAUSAL), SHAPE))
    model = QuantizedGraph(graph=graph, activations={}, weights={})
    mask = next(node for node in graph.nodes if node.op == "mask")
    with pytest.raises(PipelineError, match=f"'{mask.name}': no program holds a mask"):
        lower_node(model, mask, {})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda x: torch.where(x > 0, x, x - 1), "chooses between two values"),
        (lambda x: x.masked_fill(torch.eye(8).bool(), 3.0), "fills in 3"),
    ],
)
def test_what_has_no_integer_form_is_an_island_that_says_why(body, reason):
    graph = capture(Body(body), SHAPE)
    assert any(reason in node.attrs["why"] for node in graph.nodes if node.op == "aten")


def test_the_batch_may_lie_among_rows_or_in_the_middle():
    """capture() compares the graph with the module."""
    weight = torch.rand(8, 8, 3)
    graph = capture(Body(lambda x, w: (x[:, 0].transpose(0, 1) @ w).transpose(0, 1), w=weight), SHAPE)
    assert "matmul" in {node.op for node in graph.nodes}
    graph = capture(Body(lambda x: torch.einsum("cbhw,dbhw->bcd", *[x.transpose(0, 1)] * 2)), SHAPE)
    assert "matmul" in {node.op for node in graph.nodes}
    assert not any(node.op == "aten" for node in graph.nodes)


class Written(nn.Module):
    """A value written over by a part of itself, repeated, and by a constant."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        y, z = self.conv(x), self.conv(x)
        y[:] = y[:, :1] + 1.0
        z.copy_(torch.full((8,), 0.5))
        return y + z


def test_a_value_that_is_written_over_is_what_was_written():
    torch.manual_seed(0)
    graph = fuse(capture(Written(), SHAPE))
    assert not any(node.op == "aten" for node in graph.nodes)
    quantized, x = calibrated(graph, torch.randn(2, *SHAPE))
    compare(lower(quantized, "float"), x)
