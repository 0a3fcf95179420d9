"""The residual stream: what belongs to it, and the copies that layers read."""

from dataclasses import replace

import pytest
import torch

from stages.graph.execute import execute
from stages.graph.ir import Graph, Node
from stages.graph.residual import originals, residual_stream, with_copies
from stages.graph.schemes import arranged, resolve_schemes
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric

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
    assert residual_stream(graph) == {"stem", "b", "c", "d"}


def test_layers_read_copies_and_additions_the_stream(graph):
    copied = with_copies(graph)
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
    assert residual_stream(copied) == residual_stream(graph)


def test_the_float_function_stays(graph):
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(execute(with_copies(graph), x), execute(graph, x))


def test_statistics_of_a_copy_are_its_value_s(graph):
    found = originals(with_copies(graph), graph)
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
    assert arranged(replace(quantizer, residual_bits=8), graph) == with_copies(graph)
