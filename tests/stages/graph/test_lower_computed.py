"""Operators without weights: the program gives the simulation's integers, in small networks of each kind."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from stages.graph.capture import capture
from stages.graph.execute import compute
from stages.graph.functions import FUNCTIONS, nearest_finite
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower, lower_node, value_of
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import Simulation
from stages.quant.qparams import QParams
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from tests.quantizing import check_parity
from tests.stages.graph.test_lower import SHAPE, differences, quantized


class Gated(nn.Module):
    """A block of MobileNet-v3: hard-swish, a depthwise convolution, squeeze-and-excite."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.project = nn.Conv2d(8, 8, 1)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        x = F.hardswish(self.norm(self.stem(x)))
        y = F.hardswish(self.depthwise(x))
        y = y * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        y = self.project(y) + F.max_pool2d(x, 2)
        return self.classifier(y.mean((2, 3)))


class Attention(nn.Module):
    """One block of a transformer over the image's rows, one head, and a mean over positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(24, 16)
        self.norm1, self.norm2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.classifier = nn.Linear(16, 5)
        self.position = nn.Parameter(torch.randn(8, 16))

    def forward(self, x):
        x = self.embed(x.permute(0, 2, 1, 3).flatten(2)) + self.position
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out((q @ k.transpose(1, 2) / 4.0).softmax(-1) @ v)
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.classifier(x.mean(1))


class Decoder(nn.Module):
    """Transposed convolutions, nearest neighbours, and a head over sequences."""

    def __init__(self):
        super().__init__()
        self.transposed = nn.ConvTranspose2d(3, 6, 3, stride=2, padding=1, output_padding=1)
        self.cropped = nn.ConvTranspose2d(6, 4, 2, stride=3, padding=2, groups=2)
        self.sequence, self.norm = nn.Conv1d(4, 8, 3, stride=2, padding=1), nn.BatchNorm1d(8)

    def forward(self, x):
        x = F.leaky_relu(self.transposed(x), 0.1)
        x = self.cropped(F.interpolate(x, scale_factor=2))
        x = F.silu(self.norm(self.sequence(x.flatten(2))))
        return F.max_pool1d(x, 5, 5).mean(2) * 3 + 1


class Arithmetic(nn.Module):
    """Normalizations of every kind, and sums, differences, quotients and extremes that broadcast."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.rms, self.norm = nn.RMSNorm(8), nn.BatchNorm1d(8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x):
        x = self.first(self.stem(x))
        y = F.relu(x - x.mean((2, 3), keepdim=True)) * self.scale
        y = torch.maximum(self.rms(y), 0.5 * x.amax(1, keepdim=True)) / (1 + x.abs().mean(1, keepdim=True))
        y = torch.minimum(x + y.sum(1, keepdim=True), y / y.norm(dim=1, keepdim=True).clamp(min=0.1))
        return self.classifier(F.relu(self.norm(F.glu(torch.cat([y, x], 1), 1).amax((2, 3)))))


NETWORKS = {network.__name__: network for network in (Gated, Attention, Decoder, Arithmetic)}


@cache
def captured(name):
    return capture(NETWORKS[name](), SHAPE)


schemes = st.sampled_from(
    [
        {"activation": Symmetric(bits=8)},
        {"activation": Affine(bits=8)},
        {"activation": Affine(bits=8, signed=True), "weight": Affine(bits=8, signed=True)},
        {"activation": Affine(bits=5), "weight": Symmetric(bits=4, signed=True)},
    ]
)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), scheme=schemes)
def test_float_rounding_gives_the_real_value_rounded(name, seed, scheme):
    """real == integer at every operator, but for values that float32 cannot tell from a tie."""
    model, x = quantized(captured(name), seed, **scheme)
    for value, (difference, from_tie) in differences(model, x, "float").items():
        assert np.abs(difference).max() <= 1, value
        assert (from_tie[difference != 0] < 1e-3).all(), value


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), scheme=schemes)
def test_fixed_point_rounding_stays_within_a_level_of_each_operator(name, seed, scheme):
    model, x = quantized(captured(name), seed, **scheme)
    for value, (difference, _) in differences(model, x, "fixed_point").items():
        assert np.abs(difference).max() <= 1, value
        if model.graph[value].op == "table":
            assert not difference.any(), value


def test_every_new_operator_is_lowered():
    found = {op.op for name in NETWORKS for op in lower(quantized(captured(name), 0)[0], "float").ops}
    expected = "constant table multiply mean matmul softmax layer_norm permute upsample_nearest insert_zeros"
    expected += " subtract maximum minimum channel_table rms_norm group_norm amax"
    assert found >= set(expected.split())


def one_table(steps, x: QParams, y: QParams) -> QuantizedGraph:
    nodes = (
        Node(name="input", op="input"),
        Node(name="y", op="table", inputs=("input",), attrs={"steps": steps}),
    )
    graph = Graph(nodes=nodes, params={}, output="y")
    return QuantizedGraph(graph=graph, activations={"input": x, "y": y}, weights={})


def grid(scale, zero_point, quant_min, quant_max) -> QParams:
    return QParams(
        scale=torch.tensor(scale),
        zero_point=torch.tensor(zero_point, dtype=torch.int32),
        quant_min=quant_min,
        quant_max=quant_max,
    )


grids = st.builds(
    lambda scale, levels, zero: grid(scale, min(max(zero, levels[0]), levels[1]), *levels),
    st.floats(1e-3, 0.2),
    st.sampled_from([(0, 255), (-128, 127), (-127, 127), (0, 15)]),
    st.integers(-128, 255),
)

ARGUMENTS = {
    "compare": ("ge", 0.5),
    "affine": (-0.7, 0.3),
    "clamp": (-0.5, None),
    "times": ((("sigmoid",),),),
    "gelu": ("tanh",),
    "leaky_relu": (0.1,),
    "elu": (0.5, 1.1, 2.0),
    "threshold": (0.1, -0.4),
    "power": (3.0,),
    "exponential": (2.0,),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=20, deadline=None)
@given(x=grids, y=grids)
def test_a_table_holds_the_function_rounded_and_clamped(name, x, y):
    """``clamp(zy + rint(f(s_x (q − zx)) / s_y))``, ties of float32 aside, and the simulation to the bit."""
    steps = ((name, *ARGUMENTS.get(name, ())),)
    low_end, top = (x.scale.double() * (q - x.zero_point) for q in (x.quant_min, x.quant_max))
    assume(torch.isfinite(FUNCTIONS[name](torch.stack([low_end, top]), *ARGUMENTS.get(name, ()))).any())
    model = one_table(steps, x, y)
    (op,) = lower(model, "float").ops
    low = -128 if x.quant_min < 0 else 0
    levels = torch.arange(x.quant_min, x.quant_max + 1)
    table = torch.from_numpy(op.tensors["table"])[levels - low]

    real = x.scale.double() * (levels - x.zero_point)
    if name in ("compare", "trunc"):  # which jump: the reals of levels are float32, and not beside the jump
        real = (x.scale * (levels - x.zero_point)).double()
    f = FUNCTIONS[name](real, *ARGUMENTS.get(name, ()))
    expected = torch.round(f / y.scale.double()) + y.zero_point
    expected = expected.clamp(y.quant_min, y.quant_max)
    tie = (torch.abs(f / y.scale.double() % 1.0 - 0.5) < 1e-3) | ~torch.isfinite(f)
    around = [FUNCTIONS[name](real * (1 + sign * 1e-6), *ARGUMENTS.get(name, ())) for sign in (-1, 1)]
    steady = (around[1] - around[0]).abs() <= 1e-3 * y.scale  # else float32 may lie on the other side
    sure = ~tie & steady
    assert (table[sure] == expected[sure]).all()

    rows = (levels - x.zero_point).float() * x.scale
    simulated = Simulation(lower(model, "float")).trace(rows)["y"]
    assert (simulated == table.numpy()).all()


@pytest.mark.parametrize(
    "by_hand", [lambda x: x * F.relu6(x + 3) / 6, lambda x: torch.sigmoid(x) * x, lambda x: 2 * F.relu(x - 1)]
)
def test_functions_written_by_hand_become_one_table(by_hand):
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return by_hand(self.conv(x))

    model, x = quantized(capture(Small(), SHAPE), 0)
    assert [node.op for node in model.graph.nodes] == ["input", "conv2d", "table"]
    node = model.graph.nodes[-1]
    values = torch.linspace(-5, 5, 50).reshape(1, 50)
    torch.testing.assert_close(compute(model.graph, node, values), by_hand(values))
    assert not any(difference.any() for difference, _ in differences(model, x, "float").values())


def test_a_factor_of_a_product_needs_no_rounding_of_its_own():
    model, _ = quantized(captured("Attention"), 0)
    scores = next(node for node in model.graph.nodes if node.op == "matmul")
    assert scores.attrs["scale"] == 0.25
    assert sum(node.op == "table" for node in model.graph.nodes) == 1  # GELU


def test_what_scales_leave_no_integers_for_becomes_an_island_of_float():
    """A softmax without scale, and a layer norm beyond 64 bits."""
    model, x = quantized(captured("Attention"), 0)
    name = next(node.name for node in model.graph.nodes if node.op == "softmax")
    point = model.activations[name]
    object.__setattr__(point, "scale", point.scale * 1e-6)
    program = lower(model, "float")
    assert [op.output for op in program.ops if op.op == "island"] == [name]
    check_parity(program, x)
    object.__setattr__(model.activations["norm1"], "scale", torch.tensor(1e-14))
    values = {node.name: value_of(model, node) for node in model.graph.nodes}
    assert lower_node(model, model.graph["norm1"], values).op == "island"


def test_where_a_function_is_not_finite_its_table_holds_the_nearest_level_that_is():
    """1/x at 0 is 1/s, log(x) below 0 and at 0 is log(s)."""
    x, y = grid(0.5, 3, 0, 255), grid(0.1, 128, 0, 255)
    (op,) = lower(one_table((("reciprocal",),), x, y), "float").ops
    assert op.tensors["table"][2:5].tolist() == [128 - 20, 128 + 20, 128 + 20]
    (op,) = lower(one_table((("log",),), x, y), "float").ops
    assert op.tensors["table"][:6].tolist() == [128 - 7] * 5 + [128]
    with pytest.raises(ValueError, match="finite on no level"):
        nearest_finite(torch.full((256,), torch.nan))
