"""The QOperator form says what the program says: each operator on the very same inputs, optimized or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.onnxruntime import OnnxRuntime, load_session
from stages.exporters.onnx_graph.qoperator import program_to_qoperator
from stages.exporters.onnx_qoperator import OnnxQOperator
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program
from tests.stages.exporters.examples import X, Y, consistent, layer, rounds
from tests.stages.exporters.onnx_graph.test_qdq import dequantized, tolerance
from tests.stages.integer.strategies import programs, random_input


def kinds(model: onnx.ModelProto) -> list[str]:
    return [f"{node.domain}:{node.op_type}".removeprefix(":") for node in model.graph.node]


@pytest.mark.parametrize("optimization", ["disabled", "all"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent), samples=st.integers(1, 3))
def test_every_operator_is_within_its_tolerance(optimization, program, samples):
    backend = OnnxRuntime(threads=1, form="qoperator", optimization=optimization)
    trace = backend.compile(program).trace(random_input(program, samples))
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs)).astype(int)
        difference = np.abs(trace[op.output] - expected).max(initial=0)
        assert difference <= (tolerance(op, program, "requantized") if rounds(op) else 0), op.op


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    program=programs(modes=("float",)).map(consistent),
    contrib=st.booleans(),
    opset=st.sampled_from([17, 21, 25]),
)
def test_the_model_is_valid_and_its_domains_are_those_asked_for(program, contrib, opset):
    model = program_to_qoperator(program, 3, contrib=contrib, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    domains = {node.domain for node in model.graph.node}
    assert domains <= ({"", "com.microsoft"} if contrib else {""})
    assert [entry.domain for entry in model.opset_import] == ["", "com.microsoft"][: 1 + contrib]
    x = dequantized(program, random_input(program, 3))
    assert load_session(model.SerializeToString(), 1)(x)[0].shape == (
        3,
        *program.values[program.output].shape,
    )


def without_bias(program: Program) -> Program:
    (op,) = program.ops
    tensors = {**op.tensors, "bias": np.zeros_like(op.tensors["bias"])}
    return replace(program, ops=(replace(op, tensors=tensors),))


@pytest.mark.parametrize(
    ("residual", "contrib", "bias", "expected"),
    [
        (False, True, True, ["com.microsoft:QGemm"]),
        (False, True, False, ["QLinearMatMul"]),
        (False, False, False, ["QLinearMatMul"]),
        (False, False, True, ["MatMulInteger", "Add", "Cast", "Mul", "QuantizeLinear"]),
        (True, True, True, ["com.microsoft:QGemm", "com.microsoft:QLinearAdd"]),
        (
            True,
            False,
            False,
            ["QLinearMatMul", "DequantizeLinear", "DequantizeLinear", "Add", "QuantizeLinear"],
        ),
    ],
)
def test_a_layer_is_the_nodes_that_the_module_lists(residual, contrib, bias, expected):
    program = layer({"x": X, "y": replace(Y, quant_max=255)}, residual=residual)
    program = program if bias else without_bias(program)
    model = program_to_qoperator(program, contrib=contrib)
    assert kinds(model) == ["QuantizeLinear", *expected, "DequantizeLinear", "Identity"]


@pytest.mark.parametrize("contrib", [False, True])
def test_a_layer_computes_what_its_equation_says(contrib):
    program = layer({"x": X, "y": Y}, residual=False)
    q = np.array([[5, -7], [-128, 127], [-3, -3]], np.int8)
    x = 0.5 * (q.astype(np.float64) + 3)
    weight = np.array([[3, -2], [126, 4]]) * [[0.5], [0.25]]
    real = x @ weight.T + np.array([10, -4]) * 0.5 * [0.5, 0.25]
    expected = 4.0 * (np.clip(np.rint(real / 4.0) + 7, 0, 254) - 7)
    model = program_to_qoperator(program, contrib=contrib)
    assert load_session(model.SerializeToString(), 1)(x.astype(np.float32))[0].tolist() == expected.tolist()


def convolution(zero_point: list[int]) -> Program:
    """A 1 × 1 convolution of two channels."""
    values = {"x": replace(X, shape=(2, 3, 3)), "y": replace(Y, shape=(2, 3, 3))}
    program = layer({"x": X, "y": Y}, residual=False)
    (op,) = program.ops
    weight = {
        "weight": op.tensors["weight"][..., None, None],
        "weight_zero_point": np.array(zero_point, np.int32),
    }
    attrs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, **op.attrs}
    conv = Op(op="conv2d", inputs=("x",), output="y", attrs=attrs, tensors={**op.tensors, **weight})
    return replace(program, values=values, ops=(conv,))


@pytest.mark.parametrize(("zero_point", "kind"), [([2, 2], "QLinearConv"), ([2, 1], "Conv")])
def test_channels_with_zero_points_of_their_own_are_no_qlinearconv(zero_point, kind):
    program = convolution(zero_point)
    assert kind in kinds(program_to_qoperator(program))
    q = random_input(program, 4)
    found = OnnxRuntime(threads=1, form="qoperator").compile(program).run(q).astype(int)
    assert np.abs(found - prepare_kernel(program.ops[0], program)(q)).max() <= 1


def test_the_exporter_writes_what_its_options_say(tmp_path):
    program = layer({"x": X, "y": Y}, residual=True)
    assert OnnxQOperator().refusals(program) == []
    path = OnnxQOperator(batch=2, contrib=False, opset=17).write(program, None, tmp_path)
    model = onnx.load(path)
    assert path == tmp_path / "model.onnx"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    with pytest.raises(ValueError, match="opset=26: must be 17"):
        OnnxQOperator(opset=26)
