"""The simulation is the integers: equal in every value of every layer, in every mode of requantization."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stages.graph.capture import capture
from stages.graph.lower import lower
from stages.graph.operators.layers import exact_sums
from stages.graph.requantize import requantizer
from stages.graph.residual import with_copies
from stages.graph.simulate import Simulation
from stages.integer.interpreter import Interpreter, dequantize_output, quantize_input
from stages.integer.program import Op, Program, Requantize, Value
from stages.integer.requantizer import finisher, rescaler
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_group import PerGroup
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.symmetric import Symmetric
from tests.stages.graph.test_lower import SHAPE, captured, quantized
from tests.stages.graph.test_lower_computed import NETWORKS
from tests.stages.graph.test_lower_computed import captured as captured_computed

MODES = get_args(Requantize)


def compare(program, x):
    """Raise unless all values and the reals they end in are equal."""
    integers = Interpreter(program).trace(quantize_input(program, x.numpy()))
    simulation = Simulation(program)
    simulated = simulation.trace(x)
    assert simulated.keys() == integers.keys()
    for name, levels in integers.items():
        assert simulated[name].dtype == levels.dtype
        assert (simulated[name] == levels).all(), name
    real = dequantize_output(program, integers[program.output])
    assert (simulation(x).numpy() == real).all()


def scheme(kind, weight_bits, activation_bits, granularity):
    weight = {
        "affine": Affine(bits=weight_bits, signed=True),
        "symmetric": Symmetric(bits=weight_bits, signed=True),
        "power_of_two": PowerOfTwo(bits=weight_bits, signed=True),
    }
    activation = {
        "affine": Affine(bits=activation_bits),
        "symmetric": Symmetric(bits=activation_bits),
        "power_of_two": PowerOfTwo(bits=activation_bits),
    }
    return {"weight": weight[kind], "activation": activation[kind], "granularity": granularity}


schemes = st.builds(
    scheme,
    st.sampled_from(["affine", "symmetric", "power_of_two"]),
    st.integers(2, 8),
    st.integers(2, 8),
    st.sampled_from([PerTensor(), PerChannel(), PerGroup(group_size=4)]),
)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scheme=schemes,
    form=st.sampled_from([(1, 1, F.relu), (2, 2, F.relu6), (8, 1, F.hardtanh)]),
    copies=st.booleans(),
)
def test_convolutional_networks(mode, seed, scheme, form, copies):
    arrange = (lambda graph: with_copies(graph, 4)) if copies else (lambda graph: graph)
    model, x = quantized(captured(*form), seed, arrange=arrange, **scheme)
    compare(lower(model, mode), x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), scheme=schemes)
def test_gates_attention_and_decoders(name, mode, seed, scheme):
    model, x = quantized(captured_computed(name), seed, **(scheme | {"granularity": PerChannel()}))
    compare(lower(model, mode), x)


@pytest.mark.parametrize("mode", MODES)
def test_float_islands(mode):
    model, x = quantized(captured(), 3)
    model = replace(model, weights={k: v for k, v in model.weights.items() if k not in ("conv2", "fc1")})
    program = lower(model, mode)
    assert {op.op for op in program.ops} >= {"float_conv2d", "float_linear"}
    compare(program, x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("slopes", [1, 6])
def test_prelu(mode, slopes):
    """A slope for each channel, negative ones and some above 1 among them, or one for all."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 6, 3), nn.PReLU(slopes)

        def forward(self, x):
            return self.act(self.conv(x))

    model, x = quantized(capture(Net(), SHAPE), 0, activation=Affine(bits=8))
    program = lower(model, mode)
    assert [op.op for op in program.ops] == ["conv2d", "channel_table"]
    compare(program, x)
    slope = model.graph.params["act.slope"].reshape(-1, 1, 1)
    trace = Simulation(program).trace(x)
    read, made = (program.values[name] for name in ("conv", "act"))
    reals = (torch.from_numpy(trace["conv"]).float() - read.zero_point) * read.scale
    expected = torch.round(torch.where(reals > 0, reals, slope * reals) / made.scale) + made.zero_point
    difference = expected.clamp(made.quant_min, made.quant_max) - torch.from_numpy(trace["act"])
    assert difference.abs().max() <= 1 and (difference == 0).float().mean() > 0.999


def test_windows_that_lie_in_the_padding_alone():
    """Torch's pool gives −∞ for them; no captured network has them, an imported program may."""
    grid = {"scale": 0.1, "zero_point": 3, "quant_min": 0, "quant_max": 255}
    values = {
        "x": Value(name="x", shape=(1, 8, 8), **grid),
        "y": Value(name="y", shape=(1, 1, 1), **grid),
    }
    pool = {"kernel": (2, 2), "stride": (1, 1), "padding": (1, 1), "dilation": (9, 9), "ceil_mode": False}
    op = Op(op="max_pool2d", inputs=("x",), output="y", attrs=pool)
    compare(Program(values=values, ops=(op,), input="x", output="y"), torch.rand(2, 1, 8, 8))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    channels=st.sampled_from([64, 700, 3000]),
    image=st.booleans(),
    bias=st.sampled_from([0, 10**3, 2**30]),
)
def test_sums_beyond_24_bits_are_exact(seed, channels, image, bias):
    """All magnitudes at their largest: float32 alone would round the sums of 700 channels."""
    rng = np.random.default_rng(seed)
    window = (3, 3) if image else ()
    weight = rng.choice([-128, 126, 127], (5, channels, *window))
    q = rng.choice([-255, 0, 255], (2, channels, *window))
    biases = rng.integers(-bias, bias + 1, 5)
    attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    sums = exact_sums(
        attrs,
        torch.from_numpy(q).float(),
        torch.from_numpy(weight).float(),
        torch.from_numpy(biases).double(),
        (-255, 255),
    )
    expected = q.reshape(2, -1) @ weight.reshape(5, -1).T + biases
    assert (sums.reshape(2, 5).to(torch.int64).numpy() == expected).all()


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shift=st.integers(-31, 30),
    headroom=st.integers(0, 16),
    bits=st.integers(1, 31),
)
def test_requantization_is_the_references(mode, seed, shift, headroom, bits):
    """`requantizer` over tensors == `rescaler` and `finisher` over arrays, ties among the sums."""
    rng = np.random.default_rng(seed)
    sums = rng.integers(-(2**bits), 2**bits, (4, 33)).astype(np.int32)
    sums[:, 0] = np.int32(1) << min(bits - 1, 30)
    exponents = np.full(4, shift, np.int32) - np.arange(4, dtype=np.int32) * (shift > -27)
    multiplier = np.where(rng.random(4) < 0.3, 2**30, rng.integers(2**30, 2**31, 4)).astype(np.int32)
    op = Op(
        op="conv2d",
        inputs=("x",),
        output="y",
        attrs={"act_min": -100, "act_max": 90, "headroom": headroom},
        tensors={
            "multiplier": multiplier,
            "shift": exponents,
            "ratio": (multiplier * 2.0 ** (exponents.astype(float) - 31 - headroom)).astype(np.float32),
        },
    )
    y = Value(name="y", shape=(4, 33), scale=1.0, zero_point=7, quant_min=-128, quant_max=127)
    program = Program(values={"y": y}, ops=(op,), input="x", output="y", requantize=mode)
    expected = finisher(op, program)(rescaler(op, program)(sums))
    own = requantizer(op, program, channel=1)
    found = own.finish(own.rescale(torch.from_numpy(sums).double()))
    assert (found.numpy() + 7 == expected).all()
