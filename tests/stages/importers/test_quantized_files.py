"""A quantized file gives the program that it says: our own to the bit, others as onnxruntime computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import nn

from stages.artifacts import IntegerProgram
from stages.backends.onnxruntime import load_session
from stages.backends.reference import Reference
from stages.exporters.onnx_graph.qdq import program_to_onnx
from stages.graph.lower import lower
from stages.graph.operators.affine import affine_integers
from stages.importers import load_program, read_program
from stages.importers.onnx import read_onnx
from stages.integer.kernels.layer_norm import narrowing
from stages.integer.program import Op, Program
from stages.integer.ratios import rescaling
from tests.stages.exporters.examples import X, Y, consistent, layer
from tests.stages.importers.files import by_onnxruntime, exported, model, quantized, saved
from tests.stages.integer.strategies import programs, random_input
from tests.stages.reporting.conftest import make_run


def run_program(program: Program, q: np.ndarray) -> np.ndarray:
    return Reference().compile(program).run(q)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1), nn.Conv2d(16, 12, 1)
        self.e, self.f = nn.Linear(12, 10), nn.Linear(10, 5)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = F.relu(x + self.b(x))
        y = torch.cat([F.hardswish(self.c(x)), F.max_pool2d(x, 3, 2, 1)], 1)
        y = self.d(y)
        y = F.relu6(y * torch.sigmoid(y))
        y = F.leaky_relu(F.interpolate(F.avg_pool2d(y, 2), scale_factor=2.0))
        return self.f(F.relu(self.e(y.mean((2, 3)))))


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    torch.manual_seed(0)
    return exported(Network(), torch.randn(1, 3, 8, 8), tmp_path_factory.mktemp("onnx") / "net.onnx")


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_onnxruntime_quantized_is_within_a_level_of_onnxruntime(float_file, form, signed, per_channel):
    path = quantized(float_file, (3, 8, 8), form, signed=signed, per_channel=per_channel)
    x = np.random.default_rng(1).standard_normal((64, 3, 8, 8)).astype(np.float32)
    program = load_program(path)
    value = program.program.values[program.program.output]
    assert program.program.requantize == "float"
    assert value.dtype == (np.int8 if signed else np.uint8)
    off = np.abs(program.run(x) - by_onnxruntime(path, x)) / value.scale
    assert off.max() < 2.01
    assert (off < 0.5).mean() > 0.9
    weights = [op.tensors["weight_scale"].size for op in program.program.ops if op.op == "conv2d"]
    assert (min(weights) > 1) == per_channel
    assert {op.op for op in program.program.ops} >= {"conv2d", "linear", "add", "concat", "max_pool2d"}


def same(a: Program, b: Program) -> None:
    """Raise unless programs are equal in everything."""
    assert (a.values, a.input, a.output, a.requantize) == (b.values, b.input, b.output, b.requantize)
    for x, y in zip(a.ops, b.ops, strict=True):
        assert (x.op, x.inputs, x.output, dict(x.attrs)) == (y.op, y.inputs, y.output, dict(y.attrs))
        assert x.tensors.keys() == y.tensors.keys()
        for name, tensor in x.tensors.items():
            assert tensor.dtype == y.tensors[name].dtype
            assert np.array_equal(tensor, y.tensors[name]), (x.output, name)


def read_back(program: Program, folder, **how) -> Program:
    path = folder / "back.onnx"
    onnx.save(program_to_onnx(program, **how), path)
    return read_onnx(path)


UNREAD = {"rms_norm", "group_norm", "resample"}
"""Written as several nodes that no reader puts together again."""


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    program=programs(modes=("float", "fixed_point")).map(consistent),
    batch=st.sampled_from([None, 1, 3]),
)
def test_programs_of_our_own_come_back_as_they_were(tmp_path_factory, program, batch):
    assume(not UNREAD & {op.op for op in program.ops})
    assume(not any(op.op == "softmax" and len(op.inputs) == 2 for op in program.ops))
    q = random_input(program, 3)
    back = read_back(program, tmp_path_factory.mktemp("own"), batch=batch, residual="exact")
    assert back.requantize == program.requantize
    assert back.values[back.output].scale == program.values[program.output].scale
    assert (run_program(back, q) == run_program(program, q)).all()


@pytest.mark.parametrize("layers", [["conv"], ["conv", "linear"]])
def test_a_networks_program_is_the_same_in_every_tensor(tmp_path, layers):
    program = lower(make_run(layers).model.quantized, "fixed_point")
    same(program, read_back(program, tmp_path, residual="exact"))


def test_a_requantized_residual_is_a_layer_and_a_sum(tmp_path):
    program = layer({"x": X, "y": Y}, residual=True)
    exact, apart = (read_back(program, tmp_path, residual=r) for r in ("exact", "requantized"))
    assert [op.op for op in exact.ops] == ["linear"]
    assert [(op.op, op.output) for op in apart.ops] == [("linear", "y/unsummed"), ("add", "y")]
    q = np.array([[5, -7], [-128, 127]], np.int8)
    expected = load_session(program_to_onnx(program, trace=True).SerializeToString(), 1)
    outputs = expected(((q.astype(np.float32) + 3) * 0.5).astype(np.float32))
    assert np.abs(run_program(apart, q).astype(int) - outputs[-1].astype(int)).max() <= 1


def qdq(kind, attrs=None, weights=None, shape=("n", 3, 4, 4), scale=0.0731):
    """x → Q → DQ → the operator → Q → DQ → y, with constants as they are."""
    constants = {"s": np.float32(0.05), "z": np.uint8(128), "t": np.float32(scale), **(weights or {})}
    names = list(weights or {})
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node(kind, ["xd", *names], ["r"], name="it", **(attrs or {})),
        helper.make_node("QuantizeLinear", ["r", "t", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "t", "z"], ["y"]),
    ]
    return model(nodes, shape, constants)


CASES = {
    "Sigmoid": ({}, {}, "table"),
    "HardSigmoid": ({"alpha": 0.3}, {}, "table"),
    "PRelu": ({}, {"slope": np.array([0.1, 0.2, 0.3], np.float32).reshape(3, 1, 1)}, "channel_table"),
    "Add": ({}, {"c": np.array([1.0, 0.2, -0.3], np.float32).reshape(1, 3, 1, 1)}, "channel_table"),
    "Mul": ({}, {"c": np.float32(0.7)}, "requantize"),
    "Clip": ({}, {"low": np.float32(-0.5), "high": np.float32(1.0)}, "requantize"),
    "Relu": ({}, {}, "requantize"),
    "ReduceMean": ({"axes": [2, 3]}, {}, "mean"),
    "GlobalAveragePool": ({}, {}, "avg_pool2d"),
    "AveragePool": ({"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}, {}, "avg_pool2d"),
    "MaxPool": ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, {}, "requantize"),
    "Softmax": ({"axis": 1}, {}, "softmax"),
    "LayerNormalization": ({}, {"g": np.array([1, 2, 3, 0.5], np.float32)}, "layer_norm"),
    "Transpose": ({"perm": [0, 2, 1, 3]}, {}, "requantize"),
    "Gather": ({"axis": 1}, {"i": np.array(2)}, "requantize"),
    "Slice": (
        {},
        {"a": np.array([3]), "b": np.array([-9]), "c": np.array([2]), "d": np.array([-2])},
        "requantize",
    ),
    "Conv": ({"auto_pad": "SAME_UPPER"}, {"w": np.ones((2, 3, 2, 2), np.float32) / 8}, "float_conv2d"),
    "Squeeze": ({}, {}, None),
}


@pytest.mark.parametrize("kind", [kind for kind in CASES if CASES[kind][2]])
def test_an_operator_between_levels_is_within_a_level_of_onnxruntime(tmp_path, kind):
    attrs, weights, op = CASES[kind]
    path = saved(qdq(kind, attrs, weights), tmp_path)
    program = read_program(path)
    assert program.ops[-1].op == op
    x = np.random.default_rng(0).standard_normal((16, 3, 4, 4)).astype(np.float32) * 2
    expected = by_onnxruntime(path, x)
    off = np.abs(IntegerProgram(program=program).run(x) - expected) / np.float32(0.0731)
    assert off.shape == expected.shape
    assert off.max() < 1.01
    assert (off < 0.5).mean() > 0.97


def test_softmax_in_float_at_the_end_is_left_out(tmp_path):
    made = qdq("Relu", scale=0.05)
    made.graph.node.append(helper.make_node("Softmax", ["y"], ["p"], axis=1))
    made.graph.output[0].name = "p"
    program = read_program(saved(made, tmp_path))
    assert [op.op for op in program.ops] == ["requantize"]


def test_what_has_no_form_in_integers_is_named(tmp_path):
    def refused(made, text):
        with pytest.raises(ValueError, match=text):
            read_program(saved(made, tmp_path))

    refused(qdq("Hardmax"), r"net.onnx: Hardmax 'it': has no form in an integer program. Remedy: a network")
    made = qdq("Sigmoid")
    made.graph.node.insert(3, helper.make_node("Sigmoid", ["r"], ["r2"], name="second"))
    made.graph.node[4].input[0] = "r2"
    assert [op.op for op in read_program(saved(made, tmp_path)).ops] == ["table"]
    made = qdq("Softmax")
    made.graph.node.insert(3, helper.make_node("Sigmoid", ["r"], ["r2"], name="second"))
    made.graph.node[4].input[0] = "r2"
    refused(
        made, r"Sigmoid 'second': reads the result of Softmax 'it', which is not quantized. Remedy: quantize"
    )
    made = qdq("Relu")
    made.graph.output[0].name = "r"
    refused(made, r"the output 'r', of Relu 'it', is not quantized. Remedy: QuantizeLinear and")
    refused(
        qdq("Relu", shape=("n", 3, "h", "w")),
        r"input 'x' is of shape \[None, 3, None, None\]: all but the batch",
    )
    made = qdq("Relu")
    made.graph.initializer[2].CopyFrom(onnx.numpy_helper.from_array(np.float32(-1), "t"))
    refused(made, r"scale -1.0: must be positive and finite")
    refused(
        model([helper.make_node("Relu", ["x"], ["y"])], ["n", 3]),
        r"holds a float network, and no integer program",
    )
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="d")]
    nodes.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]))
    refused(model(nodes, ["n", 3]), r"DynamicQuantizeLinear 'd': has no form in an integer program")
    with pytest.raises(ValueError, match=r"net.pb: ending '.pb'; valid: .onnx, .tflite"):
        read_program(tmp_path / "net.pb")


def test_the_files_own_account_is_not_believed_where_it_contradicts_the_nodes(tmp_path):
    program = layer({"x": X, "y": Y}, residual=False)
    made = program_to_onnx(program)
    for said in ("{", '{"values": {"y": [0.1, 0, 0, 1e999]}}', '{"values": 3, "epsilons": {}}', "[" * 5000):
        helper.set_model_props(made, {"quantization_pipeline": said})
        back = read_program(saved(made, tmp_path))
        assert isinstance(back.ops[0], Op)
        assert back.values["y"].quant_max == 255


def test_a_layer_norm_over_16_bits_comes_back(tmp_path):
    """So many values that the integers of its squares are cut, and epsilon with them."""
    x = replace(X, shape=(96,))
    stream = replace(x, name="s", scale=0.001, zero_point=7, quant_min=-(2**15), quant_max=2**15 - 1)
    y = replace(x, name="y", scale=0.02, zero_point=0)
    narrow = narrowing(stream)
    assert narrow == 1
    step, eps = 2.0 ** (10 - 2 * narrow) * 96**3 / stream.scale**2, 1e-5
    tensors, attrs = affine_integers(np.ones(96) * 50, np.zeros(96), epsilon=eps * step, eps=eps, x=stream)
    wide = {"act_min": stream.quant_min, "act_max": stream.quant_max}
    norm = {**attrs, "narrow": narrow, "act_min": -128, "act_max": 127}
    ops = (
        Op(
            op="requantize",
            inputs=("x",),
            output="s",
            attrs=wide,
            tensors=rescaling(np.array(x.scale / 0.001)),
        ),
        Op(op="layer_norm", inputs=("s",), output="y", attrs=norm, tensors=tensors),
    )
    values = {"x": x, "s": stream, "y": y}
    program = Program(values=values, ops=ops, input="x", output="y", requantize="float")
    made = program_to_onnx(program)
    (node,) = (node for node in made.graph.node if node.op_type == "LayerNormalization")
    assert next(a.f for a in node.attribute if a.name == "epsilon") == pytest.approx(eps, rel=1e-3)
    same(program, read_onnx(saved(made, tmp_path)))


def test_weights_of_4_bits_come_back(tmp_path):
    program = layer({"x": X, "y": Y}, residual=False)
    small = np.array([[3, -2], [7, 5]], np.int8)
    program = replace(
        program, ops=(replace(program.ops[0], tensors={**program.ops[0].tensors, "weight": small}),)
    )
    made = program_to_onnx(program, narrow=True)
    assert onnx.TensorProto.INT4 in {tensor.data_type for tensor in made.graph.initializer}
    weight = read_onnx(saved(made, tmp_path)).ops[0].tensors["weight"]
    assert (weight.dtype, weight.tolist()) == (np.int8, small.tolist())
