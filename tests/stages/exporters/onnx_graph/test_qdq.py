"""The ONNX form says what the program says: run by a runtime, each operator on the very same inputs.

Examples are the same in every run: what a new one finds is, more often than not, an error of the other
runtime, and must not fail a change that has nothing to do with it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stages.backends.onnxruntime import OnnxRuntime, load_session
from stages.exporters.levels import storage_offset
from stages.exporters.onnx_graph.qdq import program_to_onnx
from stages.exporters.onnx_qdq import OnnxQdq
from stages.graph.lower import lower
from stages.integer.interpreter import quantize_input
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program
from tests.quantizing import fused, quantized
from tests.stages.exporters.examples import X, Y, consistent, layer, rounds, symmetric
from tests.stages.integer.strategies import programs, random_input
from tests.stages.integer.test_group_layers import group_programs


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
@given(
    program=programs(modes=("float",)).map(consistent),
    batch=st.sampled_from([None, 1, 7]),
    opset=st.sampled_from([17, 18, 21, 25]),
)
def test_the_model_is_valid_and_has_the_programs_shapes(program, batch, opset):
    model = program_to_onnx(program, batch, trace=True, opset=opset, narrow=True)
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


@settings(max_examples=20, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent), opset=st.sampled_from([17, 25]))
def test_opsets_say_the_same(program, opset):
    x = dequantized(program, random_input(program, 3))
    found = [run(program_to_onnx(program, 3, opset=number), x) for number in (21, opset)]
    assert found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize("optimization", ["disabled", "all"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(program=programs(ops=("conv2d", "linear", "permute", "add"), modes=("float",)).map(consistent))
def test_weights_of_4_bits_say_what_the_program_says_optimized_or_not(optimization, program):
    model = program_to_onnx(program, 2, residual="exact", trace=True, narrow=True)
    x = dequantized(program, random_input(program, 2))
    stored = load_session(model.SerializeToString(), 1, optimization)(x)[1:]
    trace = {
        value.name: (levels.astype(int) - storage_offset(value)).astype(value.dtype)
        for value, levels in zip(program.values.values(), stored, strict=True)
    }
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs)).astype(int)
        assert np.abs(trace[op.output] - expected).max(initial=0) <= rounds(op), op.op


def dequantized(program: Program, q: np.ndarray) -> np.ndarray:
    value = program.values[program.input]
    return (q.astype(np.float32) - value.zero_point) * np.float32(value.scale)


def run(model: onnx.ModelProto, x: np.ndarray, optimization: str = "disabled") -> np.ndarray:
    return load_session(model.SerializeToString(), 1, optimization)(x)[0]


def narrowed(limit: int, *, unsigned: bool = False) -> Program:
    """A layer whose weights lie in ``[-limit - 1, limit]``, or as far from 0 upwards."""
    program = layer({"x": X, "y": Y}, residual=False)
    (op,) = program.ops
    weight = np.array([[-limit - 1, 1], [0, limit]], np.int8)
    zero_point = np.array([0, 1], np.int32)
    if unsigned:
        weight, zero_point = (weight + limit + 1).astype(np.uint8), zero_point + limit + 1
    tensors = {**op.tensors, "weight": weight, "weight_zero_point": zero_point}
    return replace(program, ops=(replace(op, tensors=tensors),))


@pytest.mark.parametrize(
    ("limit", "unsigned", "opset", "kind"),
    [
        (7, False, 20, "INT8"),
        (7, False, 21, "INT4"),
        (7, True, 21, "UINT4"),
        (8, False, 25, "INT8"),
        (1, False, 21, "INT4"),
        (1, False, 25, "INT2"),
        (1, True, 25, "UINT2"),
        (2, False, 25, "INT4"),
    ],
)
def test_weights_have_the_least_bits_that_the_opset_has(limit, unsigned, opset, kind):
    program = narrowed(limit, unsigned=unsigned)
    model = program_to_onnx(program, opset=opset, narrow=True)
    onnx.checker.check_model(model, full_check=True)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, expected in (("weight", "weight"), ("weight/zero_point", "weight_zero_point")):
        assert tensors[f"y/{name}"].data_type == getattr(onnx.TensorProto, kind)
        stored = onnx.numpy_helper.to_array(tensors[f"y/{name}"]).astype(int)
        assert stored.tolist() == program.ops[0].tensors[expected].tolist()
    x = dequantized(program, random_input(program, 50))
    assert run(model, x).tolist() == run(program_to_onnx(program), x).tolist()


def test_backends_keep_weights_of_4_bits_in_8_which_kernels_read():
    kinds = [tensor.data_type for tensor in program_to_onnx(narrowed(7)).graph.initializer]
    assert onnx.TensorProto.INT4 not in kinds and onnx.TensorProto.INT8 in kinds


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    program=group_programs().map(consistent),
    opset=st.sampled_from([17, 20, 21, 25]),
    limit=st.sampled_from([127, 7]),
)
def test_scales_of_groups_are_blocks_of_few_bits_from_opset_21_on(program, opset, limit):
    (op,) = program.ops
    weight = (op.tensors["weight"].astype(int) * limit // 127).astype(np.int8)
    zero_point = op.tensors["weight_zero_point"]
    op = replace(op, tensors={**op.tensors, "weight": weight})
    program = replace(program, ops=(op,), requantize="float")
    model = program_to_onnx(program, opset=opset, narrow=True, residual="exact", trace=True)
    onnx.checker.check_model(model, full_check=True)
    stored = next(one.data_type for one in model.graph.initializer if one.name == "y/weight")
    kind = onnx.TensorProto.DataType.Name(stored)
    assert kind in (("FLOAT",) if opset < 21 else ("FLOAT", "INT4", "INT2"))
    assert (kind == "FLOAT") == (opset < 21 or np.abs(weight).max() > 7 or np.abs(zero_point).max() > 7)
    q = random_input(program, 20)
    expected = prepare_kernel(op, program)(*[q] * len(op.inputs)).astype(int)
    for optimization in ("disabled", "all"):
        levels = load_session(model.SerializeToString(), 1, optimization)(dequantized(program, q))[2]
        assert np.abs(levels.astype(int) - 128 - expected).max() <= 1


def float_layer(kind: str, *, residual: bool) -> Program:
    """A layer whose float weights no int8 of one scale holds."""
    rng = np.random.default_rng(0)
    image = (4, 4) if kind == "float_conv2d" else ()
    values = {
        "x": replace(X, shape=(8, *image), scale=0.05),
        "y": replace(Y, shape=(8, *image), scale=0.05, zero_point=120),
    }
    shape = (8, 8, 3, 3) if image else (8, 8)
    tensors = {
        "weight": (0.1 * rng.standard_t(2, size=shape)).astype(np.float32),
        "bias": rng.normal(size=8).astype(np.float32),
    }
    window = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1} if image else {}
    attrs = {**window, "act_min": 110, "act_max": 250}
    inputs = ("x", "x") if residual else ("x",)
    op = Op(op=kind, inputs=inputs, output="y", attrs=attrs, tensors=tensors)
    return Program(values=values, ops=(op,), input="x", output="y", requantize="float")


@pytest.mark.parametrize("form", ["qdq", "qoperator", "tensorrt"])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", ["float_conv2d", "float_linear"])
@pytest.mark.parametrize("optimization", ["disabled", "basic", "extended", "all"])
def test_onnxruntime_leaves_float_weights_float(kind, residual, optimization, form):
    """It rounds those of a Conv or Gemm that it sees QuantizeLinear behind."""
    program = float_layer(kind, residual=residual)
    program = symmetric(program) if form == "tensorrt" else program
    q = random_input(program, 30)
    found = OnnxRuntime(threads=1, optimization=optimization, form=form).compile(program).run(q).astype(int)
    (op,) = program.ops
    expected = prepare_kernel(op, program)(*[q] * len(op.inputs))
    twice = residual and form != "tensorrt"
    assert np.abs(found - expected).max() <= (tolerance(op, program, "requantized") if twice else 1)


class Stream(nn.Module):
    """A block with a layer norm and a shortcut, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = x + self.down(torch.relu(self.up(self.norm(x))))
        return x.mean(1)


@pytest.mark.parametrize("residual", ["exact", "requantized"])
def test_a_stream_of_16_bits_is_written_in_16_bits(residual):
    torch.manual_seed(0)
    x = 10 * torch.randn(8, 5, 16)
    program = lower(quantized(fused(Stream().eval(), (5, 16)), x, residual_bits=16), "float")
    assert any(value.wide for value in program.values.values())
    model = program_to_onnx(program, residual=residual, trace=True)
    onnx.checker.check_model(model, full_check=True)
    trace = (
        OnnxRuntime(threads=1, residual=residual).compile(program).trace(quantize_input(program, x.numpy()))
    )
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs)).astype(int)
        assert np.abs(trace[op.output] - expected).max() <= 1, op.output


def test_levels_of_16_bits_need_opset_21():
    wide = replace(Y, quant_max=65535)
    program = layer({"x": X, "y": wide}, residual=False)
    (refused,) = OnnxQdq(opset=20).refusals(program)
    assert refused == (
        "no type for levels of more than 8 bits ('y') before opset 21. "
        "Remedy: export.onnx_qdq.opset=21, or quantizer.residual_bits=8"
    )
    assert OnnxQdq().refusals(program) == []


def test_an_opset_that_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match=r"opset=16: must be 17\.\.25\. Remedy: 21"):
        OnnxQdq(opset=16)
