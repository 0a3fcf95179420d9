"""Rules for layers: who gets which quantizer."""

import pytest
import torch

from pipeline.errors import PipelineError
from stages.graph.ir import Graph, Node
from stages.graph.schemes import resolve_schemes
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric

ALL = ("a.0", "a.1", "b", "c")


def linear(name, source):
    return Node(name=name, op="linear", inputs=(source,), params={"weight": f"{name}.weight"}, shape=(2,))


@pytest.fixture
def graph():
    """x → a.0 → a.1 → flat (moved) → b → c."""
    nodes = (
        Node(name="x", op="input", shape=(2,)),
        linear("a.0", "x"),
        linear("a.1", "a.0"),
        Node(name="flat", op="reshape", inputs=("a.1",), attrs={"shape": (2,)}, shape=(2,)),
        linear("b", "flat"),
        linear("c", "b"),
    )
    return Graph(nodes=nodes, params={f"{name}.weight": torch.eye(2) for name in ALL}, output="c")


def bits(graph, **rules):
    """Bits of the weights and of the activations, by name."""
    quantizer = WeightsAndActivations(
        weight=Symmetric(bits=4, signed=True), activation=Symmetric(bits=4), **rules
    )
    found = resolve_schemes(quantizer, graph)
    return ({name: q.bits for name, q in group.items()} for group in (found.weights, found.activations))


def test_without_rules_all_are_alike(graph):
    weights, activations = bits(graph)
    assert weights == dict.fromkeys(ALL, 4)
    assert activations == dict.fromkeys(("x", *ALL), 4)


def test_first_and_last_layer_with_what_they_read_and_give(graph):
    weights, activations = bits(graph, first_last_bits=8)
    assert weights == {"a.0": 8, "a.1": 4, "b": 4, "c": 8}
    assert activations == {"x": 8, "a.0": 4, "a.1": 4, "b": 8, "c": 8}


def test_patterns_and_the_later_rule_wins(graph):
    layers = {"a.*": {"weight": 6, "activation": 5}, "a.1": {"weight": 3}, "x": {"activation": 7}}
    weights, activations = bits(graph, layers=layers, first_last_bits=8)
    assert weights == {"a.0": 6, "a.1": 3, "b": 4, "c": 8}
    assert activations == {"x": 7, "a.0": 5, "a.1": 5, "b": 8, "c": 8}


def test_a_quantizer_of_its_own(graph):
    own = Affine(bits=5, signed=True)
    quantizer = WeightsAndActivations(
        weight=Symmetric(signed=True), activation=Symmetric(), layers={"b": {"weight": own}}
    )
    assert resolve_schemes(quantizer, graph).weights["b"] is own


def test_float_layers_have_no_weight_quantizer(graph):
    weights, activations = bits(graph, layers={"a.*": "float", "a.0": {"weight": 3}})
    assert weights == {"a.0": 3, "b": 4, "c": 4}  # a later rule takes the first layer back
    assert activations == dict.fromkeys(("x", *ALL), 4)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            {"conv*": {"weight": 4}},
            r"pattern 'conv\*' matches no layer\. Remedy: one of a\.0, a\.1, b, c, or",
        ),
        ({"x": "float"}, r"pattern 'x' matches no layer"),
        ({"y": {"activation": 4}}, r"pattern 'y' matches no value\. Remedy: one of x, a\.0"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(graph, layers, message):
    with pytest.raises(PipelineError, match=message):
        bits(graph, layers=layers)


def test_float_activations_have_no_scheme_and_rules_of_weights_hold(graph):
    quantizer = WeightsAndActivations(
        weight=Symmetric(bits=4, signed=True), activation=None, first_last_bits=8, layers={"b": {"weight": 3}}
    )
    found = resolve_schemes(quantizer, graph)
    assert found.activations == {}
    assert {name: q.bits for name, q in found.weights.items()} == {"a.0": 8, "a.1": 4, "b": 3, "c": 8}
    with pytest.raises(ValueError, match=r"layers\.b\.activation: must be left out where activation=null"):
        WeightsAndActivations(weight=Symmetric(signed=True), activation=None, layers={"b": {"activation": 8}})
