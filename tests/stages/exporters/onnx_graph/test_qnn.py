"""The file for HTP says what the program says, on onnxruntime's CPU, and stands in node units."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings

from stages.exporters.onnx_graph.qnn import program_to_qnn, traced
from stages.exporters.onnx_graph.qnn_rules import qnn_dtype, qnn_offset, qnn_refusals
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program, Value
from tests.stages.exporters.examples import X, Y, consistent, layer, rounds
from tests.stages.integer.strategies import programs, random_input

FREE = {"Cast", "Shape", "Concat", "Expand"}
"""What may stand outside of a unit: indices and shapes."""


@settings(max_examples=40, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent))
def test_onnxruntime_computes_the_program_from_it(program):
    if qnn_refusals(program):
        return
    model = program_to_qnn(program, 2, trace=True)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    x, q = program.values[program.input], random_input(program, 2)
    _, *shown = session.run(None, {"input": (q.astype(np.float32) - x.zero_point) * np.float32(x.scale)})
    trace = {
        value.name: (np.rint(reals / np.float32(value.scale)) + value.zero_point).astype(value.dtype)
        for value, reals in zip(program.values.values(), shown, strict=True)
    }
    assert (trace[program.input] == q).all()
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs)).astype(int)
        difference = np.abs(trace[op.output] - expected).max(initial=0)
        assert difference <= (2 if rounds(op) else 0), op.op


def test_an_operator_stands_between_dequantized_inputs_and_a_quantized_result():
    program = layer({"x": X, "y": Y}, residual=True)
    nodes = program_to_qnn(program).graph.node
    makers = {output: node.op_type for node in nodes for output in node.output}
    readers = {name: node.op_type for node in nodes for name in node.input}
    units = [n for n in nodes if n.op_type not in FREE | {"QuantizeLinear", "DequantizeLinear", "Identity"}]
    assert [node.op_type for node in units] == ["Gemm", "Add", "Min"]  # 254 is not the dtype's bound
    for node in units:
        assert {makers[name] for name in node.input} == {"DequantizeLinear"}
        assert readers[node.output[0]] == "QuantizeLinear"


@pytest.mark.parametrize(
    ("levels", "bounds", "kinds"),
    [
        ((0, 255, 0), (0, 255), []),
        ((0, 255, 9), (9, 255), ["Relu"]),
        ((0, 255, 9), (9, 90), ["Clip"]),
        ((0, 254, 0), (0, 254), ["Min"]),
        ((-127, 127, 0), (-127, 127), ["Max"]),
        ((0, 255, 9), (9, 9), ["Max", "Min"]),
    ],
)
def test_bounds_are_units_where_the_dtype_does_not_imply_them(levels, bounds, kinds):
    low, high, zero_point = levels
    program = layer(
        {"x": X, "y": replace(Y, quant_min=low, quant_max=high, zero_point=zero_point)}, residual=False
    )
    op = replace(program.ops[0], attrs=dict(zip(("act_min", "act_max"), bounds, strict=True)))
    nodes = program_to_qnn(replace(program, ops=(op,))).graph.node
    assert [node.op_type for node in nodes if node.op_type in ("Clip", "Relu", "Min", "Max")] == kinds


def test_signed_levels_are_stored_in_the_middle_of_an_unsigned_type():
    wide = replace(X, quant_min=-32767, quant_max=32767)
    assert [qnn_offset(value) for value in (X, Y, wide)] == [128, 0, 32768]
    assert [qnn_dtype(value).name for value in (X, Y, wide)] == ["uint8", "uint8", "uint16"]
    tokens = Value(name="ids", shape=(4,), scale=1.0, zero_point=0, quant_min=0, quant_max=999)
    assert (qnn_dtype(tokens).name, qnn_offset(tokens), traced(tokens)) == ("int32", 0, "ids/q")


def one(op: str, attrs: dict[str, object], *inputs: str, y: Value = Y, **tensors: np.ndarray) -> Program:
    only = Op(op=op, inputs=inputs or ("x",), output="y", attrs=attrs, tensors=tensors)
    return Program(values={"x": X, "y": y}, ops=(only,), input="x", output="y", requantize="float")


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (one("rms_norm", {}), r"no form in QNN for rms_norm \(y\)\. Remedy: leave"),
        (one("max_pool2d", {"dilation": (2, 1)}), r"y: HTP has no max pool with dilation\. Remedy"),
        (one("softmax", {}, "x", "x"), r"y: HTP has no softmax with a mask in integers\. Remedy"),
        (one("softmax", {}, y=Y), r"y: HTP's softmax gives levels from 0 on.*Remedy: quantizer=symmetric"),
        (
            one("linear", {}, weight_zero_point=np.array([0, 3], np.int32)),
            r"y: HTP takes weights with a scale a channel only where.*Remedy: quantizer=symmetric, or gran",
        ),
    ],
)
def test_a_rule_names_operator_and_remedy(program, told):
    (reason, *_) = qnn_refusals(program)
    assert re.search(told, reason)


def test_one_zero_point_for_all_weights_is_no_reason():
    assert qnn_refusals(one("linear", {}, weight_zero_point=np.array([3], np.int32))) == []
