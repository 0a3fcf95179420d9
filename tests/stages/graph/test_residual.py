"""The residual stream: what belongs to it, and the copies that layers read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from stages.backends.base import load_backend
from stages.graph.execute import execute
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower
from stages.graph.residual import originals, residual_stream, with_copies
from stages.graph.schemes import arranged, resolve_schemes
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.measuring.accuracy import sqnr_db
from stages.quant.estimators.lsq import Lsq
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.training.qat_network import QatNetwork
from tests.quantizing import check_parity, fused, quantized

RELU = {"clamp_min": 0.0}


def linear(name, *sources, **bounds):
    return Node(
        name=name, op="linear", inputs=sources, params={"weight": f"{name}.weight"}, shape=(4,), **bounds
    )


@pytest.fixture
def graph():
    """stem → [moved] → a → b (+ moved) → c → d (an add of its own with b) → mean → head."""
    nodes = (
        Node(name="x", op="input", shape=(4,)),
        linear("stem", "x", **RELU),
        Node(name="moved", op="reshape", inputs=("stem",), attrs={"shape": (4,)}, shape=(4,)),
        linear("a", "moved", **RELU),
        linear("b", "a", "moved"),
        linear("c", "b"),
        Node(name="d", op="add", inputs=("c", "b"), shape=(4,), **RELU),
        Node(name="pool", op="table", inputs=("d",), attrs={"steps": (("tanh",),)}, shape=(4,)),
        linear("head", "pool"),
    )
    generator = torch.Generator().manual_seed(0)
    names = ("stem", "a", "b", "c", "head")
    params = {f"{name}.weight": torch.randn(4, 4, generator=generator) for name in names}
    return Graph(nodes=nodes, params=params, output="head")


def test_the_stream_is_what_additions_form_and_read(graph):
    assert residual_stream(graph, 4) == {"stem", "b", "c", "d"}


def test_layers_read_copies_and_additions_the_stream(graph):
    copied = with_copies(graph, 4)
    assert {node.name: node.inputs for node in copied.nodes} == {
        "x": (),
        "stem": ("x",),
        "moved": ("stem",),
        "moved.operand": ("moved",),
        "a": ("moved.operand",),
        "b": ("a", "moved"),
        "b.operand": ("b",),
        "c": ("b.operand",),
        "d": ("c", "b"),
        "pool": ("d",),
        "head": ("pool",),
    }
    assert copied["moved.operand"].clamp_min == 0.0  # never negative: training rounds it in place of the ReLU
    assert not copied["b.operand"].clamps
    assert residual_stream(copied, 4) == residual_stream(graph, 4)


def test_the_float_function_stays(graph):
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(execute(with_copies(graph, 4), x), execute(graph, x))


def test_statistics_of_a_copy_are_its_value_s(graph):
    found = originals(with_copies(graph, 4), graph)
    assert found["moved.operand"] == "stem"
    assert found["b.operand"] == "b"
    assert all(found[name] == name for name in ("x", "stem", "a", "b", "c", "d", "pool", "head"))


def test_bits_of_the_stream_and_of_the_copies(graph):
    quantizer = WeightsAndActivations(
        weight=Symmetric(bits=3, signed=True), activation=Symmetric(bits=3), residual_bits=8
    )
    found = resolve_schemes(quantizer, arranged(quantizer, graph)).activations
    assert {name: own.bits for name, own in found.items()} == {
        **dict.fromkeys(("stem", "b", "c", "d"), 8),
        **dict.fromkeys(("x", "a", "moved.operand", "b.operand", "pool", "head"), 3),
    }


def test_without_bits_of_its_own_there_are_no_copies(graph):
    quantizer = WeightsAndActivations(weight=Symmetric(signed=True), activation=Symmetric())
    assert arranged(quantizer, graph) is graph
    assert arranged(replace(quantizer, residual_bits=8), graph) == with_copies(graph, 4)


def test_with_more_than_8_bits_all_but_sums_read_copies(graph):
    copied = with_copies(replace(graph, output="d"), 16)
    assert copied["pool"].inputs == ("d.operand",)
    assert copied["d"].inputs == ("c", "b")
    assert copied.output == "d.operand"


class PostNorm(nn.Module):
    """A block whose normalization is part of the stream, as BERT's, with a channel far from the others."""

    def __init__(self):
        super().__init__()
        self.first, self.up, self.down = nn.Linear(16, 16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.norm1, self.norm2, self.head = nn.LayerNorm(16), nn.LayerNorm(16), nn.Linear(16, 5)
        with torch.no_grad():
            self.norm1.weight[3], self.down.bias[3] = 30.0, 300.0

    def forward(self, x):
        x = self.norm1(x + self.first(x))
        return self.head(self.norm2(x + self.down(torch.nn.functional.gelu(self.up(x)))))


@pytest.mark.parametrize("mode", ["float", "fixed_point", "fixed_point_single"])
def test_a_stream_of_16_bits_is_exact_and_better(mode):
    torch.manual_seed(0)
    network, x = fused(PostNorm(), (7, 16)), torch.randn(64, 7, 16)
    expected = execute(network, x).double().numpy()
    ratios = {}
    for bits in (None, 16):
        model = quantized(network, x, residual_bits=bits)
        program = lower(model, mode)
        levels = check_parity(program, x[:9])
        assert any(value.wide for value in program.values.values()) == (bits == 16)
        reals = dequantize_output(program, levels[program.output])
        ratios[bits] = sqnr_db(np.square(expected[:9]).sum(), np.square(reals - expected[:9]).sum())
        native = load_backend("native").compile(program)
        assert (native.run(quantize_input(program, x[:9].numpy())) == levels[program.output]).all()
    assert ratios[16] > ratios[None] + 3.0


def test_training_with_a_stream_of_16_bits_computes_what_the_program_does():
    torch.manual_seed(0)
    network, x = fused(PostNorm(), (7, 16)), torch.randn(16, 7, 16)
    start = quantized(network, x, residual_bits=16)
    quantizer = WeightsAndActivations(
        weight=Symmetric(bits=8, signed=True), activation=Affine(bits=8), residual_bits=16
    )
    trained = QatNetwork(network, start, quantizer, Lsq())
    trained.train()(x).square().sum().backward()
    program = lower(trained.eval().quantized(), "float")
    levels = check_parity(program, x)
    reals = dequantize_output(program, levels[program.output])
    np.testing.assert_array_equal(trained(x).detach().numpy(), reals)
