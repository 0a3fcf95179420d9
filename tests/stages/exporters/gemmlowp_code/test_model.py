"""The C++ gives the reference's integers through gemmlowp's own kernels and output stages."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from stages.data.description import Description
from stages.exporters.gemmlowp import Gemmlowp
from stages.exporters.gemmlowp_code.layers import Gemm
from stages.integer.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier
from stages.integer.interpreter import Interpreter
from stages.integer.program import Op, Program, Value
from stages.integer.unsigned import to_unsigned, unsigned
from tests.stages.exporters.examples import X, Y, layer
from tests.stages.exporters.gemmlowp_code.compiled import compile_cpp, needs_gemmlowp, run_cpp
from tests.stages.integer.strategies import ALL_OPS, programs, random_input
from tests.stages.integer.test_group_layers import group_programs


def assert_same(program: Program, *flags: str, samples: int = 4) -> None:
    q = random_input(program, samples)
    with tempfile.TemporaryDirectory() as folder:
        found = run_cpp(compile_cpp(program, Path(folder), *flags), program, q)
    np.testing.assert_array_equal(found, Interpreter(program, threads=1).run(q))


@needs_gemmlowp
@pytest.mark.parametrize("flag", ["-O0", "-msse4.1"])
@settings(max_examples=3, deadline=None, derandomize=True)
@given(program=programs(ops=("conv2d", "linear", "reshape"), modes=("fixed_point",), ranks=(1, 2, 3)))
def test_layers_by_numbers_and_by_vectors(flag, program):
    assert_same(program, flag)


@needs_gemmlowp
@settings(max_examples=3, deadline=None)
@given(program=programs(ops=(*ALL_OPS, "conv2d", "linear"), modes=("fixed_point",), ranks=(1, 2, 3)))
def test_any_program(program):
    assert_same(program)


@needs_gemmlowp
@settings(max_examples=2, deadline=None)
@given(program=group_programs())
def test_layers_of_a_sum_for_each_group(program):
    assert_same(replace(program, requantize="fixed_point"))


def every_layer(per_channel: bool, low: int) -> Program:
    """Levels and weights from `low` on, with zero points: a convolution, a grouped, a depthwise, rows."""
    rng = np.random.default_rng(5)

    def value(name: str, *shape: int) -> Value:
        zero_point = low + int(rng.integers(100, 150))
        return Value(
            name=name, shape=shape, scale=0.1, zero_point=zero_point, quant_min=low, quant_max=low + 255
        )

    chain = [value("x", 4, 9, 7), value("a", 6, 5, 7), value("b", 12, 3, 4), value("c", 24, 3, 4)]
    chain += [replace(chain[-1], name="r", shape=(24, 12)), value("y", 24, 5)]

    def make(x: Value, y: Value, groups: int, *kernel: int, **attrs: tuple[int, int]) -> Op:
        rows = y.shape[0] if kernel else y.shape[-1]
        depth = (x.shape[0] if kernel else x.shape[-1]) // groups
        shape = (rows, depth, *kernel)
        size, dtype = rows if per_channel else 1, np.uint8 if low == 0 else np.int8
        multiplier, shift = quantize_multiplier(
            rng.uniform(0.2, 2.0, size) / (60 * np.prod(shape[1:]) ** 0.5)
        )
        tensors = {
            "weight": rng.integers(low, low + 256, shape).astype(dtype),
            "weight_scale": np.ones(size, np.float32),
            "weight_zero_point": rng.integers(low, low + 256, size).astype(np.int32),
            "bias": rng.integers(-3000, 3000, rows).astype(np.int32),
            "multiplier": multiplier,
            "shift": shift,
            "ratio": np.ones(size, np.float32),
        }
        bounds = {"act_min": low + 3, "act_max": low + 250}
        window = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": groups} if kernel else {}
        op = "conv2d" if kernel else "linear"
        return Op(
            op=op, inputs=(x.name,), output=y.name, attrs={**window, **attrs, **bounds}, tensors=tensors
        )

    x, a, b, c, r, y = chain
    ops = (
        make(x, a, 1, 3, 3, padding=(0, 2), dilation=(2, 2)),
        make(a, b, 3, 3, 3, padding=(1, 1), stride=(2, 2)),
        make(b, c, 12, 3, 3, padding=(1, 1)),
        Op(op="reshape", inputs=("c",), output="r", attrs={"shape": (24, 12)}),
        make(r, y, 1),
    )
    return Program(
        values={v.name: v for v in chain}, ops=ops, input="x", output="y", requantize="fixed_point"
    )


@needs_gemmlowp
@pytest.mark.parametrize("per_channel", [False, True])
def test_zero_points_on_both_sides(per_channel):
    """Unsigned and signed, one for a layer and one a row; all in gemmlowp's output pipeline."""
    program = every_layer(per_channel, 0 if per_channel else -128)
    own = unsigned(program)
    assert all(Gemm.of(op, own).in_pipeline for op in own.ops if "weight" in op.tensors)
    assert_same(program)


@needs_gemmlowp
@pytest.mark.parametrize("residual", [False, True])
def test_a_layer_of_16_bits(residual):
    """gemmlowp gives its sums; a residual is added to them."""
    y = replace(Y, scale=0.01, zero_point=-7, quant_min=-(2**15), quant_max=2**15 - 1)
    assert_same(replace(layer({"x": X, "y": y}, residual=residual), requantize="fixed_point"))


@pytest.mark.parametrize("low", [0, -128])
def test_the_numbers_alone_give_a_layers_levels(tmp_path, low):
    """model.json and model.bin, by gemmlowp's equation: minus zero points added on both sides."""
    program = every_layer(True, low)
    description = Description(shape=(4, 9, 7), classes=("a", "é"))
    Gemmlowp().write(program, description, tmp_path)
    document = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    data = (tmp_path / "model.bin").read_bytes()
    assert document["description"]["classes"] == ["a", "é"]
    operator = document["operators"][-1]
    values = {value["name"]: value for value in document["values"]}
    gemm = operator["gemm"]
    tensors = {
        name: np.frombuffer(data, t["dtype"], int(np.prod(t["shape"])), t["offset"]).reshape(t["shape"])
        for name, t in operator["tensors"].items()
    }
    assert tensors["weight"].dtype == np.uint8
    q = random_input(program, 3)
    trace = Interpreter(program, threads=1).trace(q)
    x = to_unsigned(trace["r"]).astype(np.int64)
    assert gemm["rhs_offset"] == values["r"]["offset"] == -values["r"]["zero_point"]
    sums = (x + gemm["rhs_offset"]) @ (tensors["weight"].T.astype(np.int64) + gemm["lhs_offset"])
    scaled = multiply_by_quantized_multiplier(
        sums + tensors["bias"], gemm["result_fixedpoint_multiplier"], gemm["result_exponent"]
    )
    attrs = operator["attrs"]
    levels = np.clip(scaled + gemm["result_offset_after_shift"], attrs["act_min"], attrs["act_max"])
    np.testing.assert_array_equal(levels, to_unsigned(trace["y"]))


def test_sums_that_the_pipeline_would_not_hold_are_finished_by_us():
    """A shift to the left beyond int32, a lower exponent than its mask, and a residual."""
    own = unsigned(replace(layer({"x": X, "y": Y}, residual=False), requantize="fixed_point"))
    (op,) = own.ops
    assert Gemm.of(op, own).in_pipeline
    for shift in (30, -31):
        tensors = {**op.tensors, "shift": np.array([shift, 0], np.int32)}
        assert not Gemm.of(replace(op, tensors=tensors), own).in_pipeline
    summed = unsigned(layer({"x": X, "y": Y}, residual=True))
    assert not Gemm.of(summed.ops[0], summed).in_pipeline


def test_refuses_by_name_what_gemmlowp_does_not_compute():
    program = layer({"x": X, "y": Y}, residual=False)
    (reason,) = Gemmlowp().refusals(replace(program, requantize="float"))
    assert reason.startswith("arithmetic float of its operators (y): ")
    assert reason.endswith("Remedy: convert.arithmetic=fixed_point")
    (op,) = program.ops
    deep = replace(op, tensors={**op.tensors, "weight": np.zeros((2, 33026), np.int8)})
    (reason,) = Gemmlowp().refusals(replace(program, ops=(deep,), requantize="fixed_point"))
    assert reason.startswith("more than 33025 products a sum (y): ")
    head = Program(
        values=program.values,
        ops=(Op(op="float_linear", inputs=("x",), output="y"),),
        input="x",
        output="y",
        requantize="fixed_point",
    )
    (reason,) = Gemmlowp().refusals(head)
    assert reason.startswith("no form in gemmlowp for float_linear (y). Remedy: ")
