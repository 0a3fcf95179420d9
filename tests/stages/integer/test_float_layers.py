"""Layers that stay float, between integers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings

from stages.integer.bounds import FLOAT32_EXACT, accumulator_bounds, centred_weight
from stages.integer.format import load_program, save_program
from stages.integer.interpreter import Interpreter
from stages.integer.program import Op, Program, Value
from stages.integer.validate import validate
from tests.stages.integer.strategies import programs, random_input


def with_exact_ratios(program: Program) -> Program:
    """All scales 1, ratios powers of two: float32 loses nothing before the last rounding."""
    ops = []
    for op in program.ops:
        tensors = dict(op.tensors)
        if "weight" in tensors:
            tensors["ratio"] = (2.0 ** np.round(np.log2(tensors["ratio"]))).astype(np.float32)
            tensors["weight_scale"] = np.ones(1, np.float32)
        if "residual_ratio" in tensors:
            tensors["residual_ratio"] = np.ones(1, np.float32)
        ops.append(replace(op, tensors=tensors))
    values = {name: replace(value, scale=1.0) for name, value in program.values.items()}
    return replace(program, ops=tuple(ops), values=values)


def as_float(op: Op) -> Op:
    """The layer over the reals that its integers stand for, its input and output having scale 1."""
    if "weight" not in op.tensors:
        return op
    ratio = np.broadcast_to(op.tensors["ratio"], op.tensors["bias"].shape)
    weight = centred_weight(op) * ratio.reshape(-1, *[1] * (op.tensors["weight"].ndim - 1))
    tensors = {"weight": weight.astype(np.float32), "bias": (op.tensors["bias"] * ratio).astype(np.float32)}
    attrs = {name: value for name, value in op.attrs.items() if name != "headroom"}
    return replace(op, op=f"float_{op.op}", attrs=attrs, tensors=tensors)


@settings(max_examples=60, deadline=None)
@given(program=programs(ops=("conv2d", "linear"), modes=("float",)))
def test_float_layers_over_exact_numbers_are_integer_layers(program, tmp_path_factory):
    """``s_x(qx−zx)·w`` with ``w = s_w(qw−zw)``: the same levels, also after saving and loading."""
    integers = with_exact_ratios(program)
    layers = [op for op in integers.ops if "weight" in op.tensors]
    assume(all(accumulator_bounds(op, integers).max() < FLOAT32_EXACT for op in layers))
    floats = replace(integers, ops=tuple(map(as_float, integers.ops)))
    directory = tmp_path_factory.mktemp("program")
    save_program(floats, directory)
    q = random_input(integers, samples=3)
    expected, found = Interpreter(integers).trace(q), Interpreter(load_program(directory)).trace(q)
    assert expected.keys() == found.keys()
    for name, levels in expected.items():
        assert found[name].dtype == levels.dtype
        assert (found[name] == levels).all(), name


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": np.ones((2, 3), np.int8)}, r"tensor 'weight' is int8 \(2, 3\): must be float32"),
        ({"bias": np.ones(3, np.float32)}, r"tensor 'bias' is float32 \(3,\): must be float32 \(2,\)"),
        ({"weight": np.full((2, 3), np.nan, np.float32)}, r"weight and bias must be finite"),
    ],
)
def test_other_tensors_are_refused(tensors, message):
    value = {"scale": 0.5, "zero_point": 0, "quant_min": -127, "quant_max": 127}
    op = Op(
        op="float_linear",
        inputs=("x",),
        output="y",
        attrs={"act_min": -127, "act_max": 127},
        tensors={"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)} | tensors,
    )
    values = {"x": Value(name="x", shape=(3,), **value), "y": Value(name="y", shape=(2,), **value)}
    with pytest.raises(ValueError, match=rf"'y' \(float_linear\): .*{message}"):
        validate(Program(values=values, ops=(op,), input="x", output="y"))
