"""The ONNX form says what the program says: run by a runtime, each operator on the very same inputs.

Examples are the same in every run: what a new one finds is, more often than not, an error of the other
runtime, and must not fail a change that has nothing to do with it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.onnxruntime import OnnxRuntime
from stages.exporters.levels import storage_offset
from stages.exporters.onnx_graph.qdq import program_to_onnx
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program
from tests.stages.exporters.examples import X, Y, consistent, layer, rounds
from tests.stages.integer.strategies import programs, random_input


def tolerance(op: Op, program: Program, residual: str) -> int:
    """Levels that an operator may differ by: rounding of near-ties, and the second rounding of a residual."""
    if len(op.inputs) < 2 or "weight" not in op.tensors or residual == "exact":
        return 1
    r, y = program.values[op.inputs[1]], program.values[op.output]
    span = (op.attrs["act_max"] - op.attrs["act_min"]) * y.scale + (r.quant_max - r.quant_min) * r.scale
    return int(np.ceil(0.5 * span / 254 / y.scale)) + 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    program=programs(modes=("float",)).map(consistent),
    samples=st.integers(1, 3),
    residual=st.sampled_from(["requantized", "exact"]),
)
def test_every_operator_is_within_its_tolerance(program, samples, residual):
    trace = OnnxRuntime(threads=1, residual=residual).compile(program).trace(random_input(program, samples))
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs)).astype(int)
        difference = np.abs(trace[op.output] - expected).max(initial=0)
        assert difference <= (tolerance(op, program, residual) if rounds(op) else 0), op.op


@settings(max_examples=30, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent), batch=st.sampled_from([None, 1, 7]))
def test_the_model_is_valid_and_has_the_programs_shapes(program, batch):
    model = program_to_onnx(program, batch, trace=True)
    onnx.checker.check_model(model, full_check=True)
    (x,), (y, *traced) = model.graph.input, model.graph.output
    assert shape(x) == ("N" if batch is None else batch, *program.values[program.input].shape)
    assert shape(y) == ("N" if batch is None else batch, *program.values[program.output].shape)
    assert [output.name for output in traced] == [f"{name}/q" for name in program.values]


def shape(info: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim)


@pytest.mark.parametrize("float_weights", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_a_layer_computes_what_its_equation_says(residual, float_weights):
    program = layer({"x": X, "y": Y}, residual=residual, float_weights=float_weights)
    q = np.array([[5, -7], [-128, 127], [-3, -3]], np.int8)
    x = 0.5 * (q.astype(np.float64) + 3)
    if float_weights:
        real = x @ np.array([[3.0, -2.0], [127.0, 5.0]]).T + [0.5, -1.25]
    else:
        weight = np.array([[3, -2], [126, 4]]) * [[0.5], [0.25]]
        real = x @ weight.T + np.array([10, -4]) * 0.5 * [0.5, 0.25]
    expected = np.clip(np.rint((real + (x if residual else 0)) / 4.0) + 7, 0, 254).astype(np.uint8)
    assert OnnxRuntime(residual="exact").compile(program).run(q).tolist() == expected.tolist()


def test_a_requantized_residual_has_one_more_rounding():
    program = layer({"x": X, "y": Y}, residual=True)
    for residual, quantizations in (("exact", 2), ("requantized", 3)):
        model = program_to_onnx(program, residual=residual)
        assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == quantizations


def test_signed_levels_are_stored_128_higher():
    assert storage_offset(X) == 128
    assert storage_offset(Y) == 0


def test_a_clip_is_written_only_where_levels_are_narrower_than_the_dtype():
    wide = replace(Y, quant_max=255)
    clips = [
        [node.op_type for node in program_to_onnx(layer({"x": X, "y": y}, residual=False)).graph.node].count(
            "Clip"
        )
        for y in (wide, Y)
    ]
    assert clips == [0, 1]
