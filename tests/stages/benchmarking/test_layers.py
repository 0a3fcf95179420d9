from __future__ import annotations

import numpy as np

from stages.backends.onnxruntime import OnnxRuntime
from stages.backends.reference import Reference
from stages.benchmarking.layers import layer_times, operations
from stages.integer.program import Op, Program, Value
from tests.stages.exporters.examples import X, Y, layer


def test_operations_count_two_a_multiply_accumulate():
    y = Value(name="y", shape=(6, 5, 7), scale=1.0, zero_point=0, quant_min=0, quant_max=255)
    conv = Op(op="conv2d", inputs=("x",), output="y", tensors={"weight": np.zeros((6, 2, 3, 3), np.int8)})
    linear = layer({"x": X, "y": Y}, residual=False)
    program = Program(values={"y": y}, ops=(conv,), input="x", output="y")
    assert operations(conv, program) == 2 * (6 * 5 * 7) * (2 * 3 * 3)
    assert operations(linear.ops[0], linear) == 2 * 2 * 2
    assert operations(Op(op="reshape", inputs=("x",), output="y"), program) == 0


def test_operations_of_matrices_count_their_inner_dimension():
    shapes = {"a": (2, 3, 5), "b": (2, 5, 7), "y": (2, 3, 7)}
    values = {
        name: Value(name=name, shape=shape, scale=1.0, zero_point=0, quant_min=0, quant_max=255)
        for name, shape in shapes.items()
    }
    op = Op(op="matmul", inputs=("a", "b"), output="y")
    assert operations(op, Program(values=values, ops=(op,), input="a", output="y")) == 2 * 2 * 3 * 5 * 7


def test_layer_times_are_shares_of_the_limit():
    program = layer({"x": X, "y": Y}, residual=False)
    q = np.zeros((5, 2), np.int8)
    (row,) = layer_times(program, Reference(threads=1).compile(program), q, limit=1e9, runs=3)
    assert (row.name, row.op, row.operations) == ("y", "linear", 5 * 8)
    assert row.share == row.operations / row.seconds / 1e9


def test_an_executable_that_does_not_tell_has_no_layers():
    program = layer({"x": X, "y": Y}, residual=False)
    executable = OnnxRuntime(threads=1).compile(program)
    assert layer_times(program, executable, np.zeros((5, 2), np.int8), limit=1e9) == ()
