"""The file says what the program says: run by runtimes of TFLite, each operator on the very same inputs."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import TensorType
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.foreign.tflite_sessions import load_litert, load_tflm
from stages.exporters.tflite_file.model import TfliteModel, problems, program_to_tflite
from stages.integer.interpreter import Interpreter
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program
from tests.stages.exporters.tflite_file.forms import OPS, in_form
from tests.stages.exporters.tflite_file.networks import Read, convolution, convolutional, value
from tests.stages.integer.strategies import programs, random_input

ROUNDED_OTHERWISE = ("linear", "matmul")

OF_IMAGES = (
    "conv2d",
    "conv2d",
    "avg_pool2d",
    "max_pool2d",
    "linear",
    "reshape",
    "add",
    "mean",
    "insert_zeros",
)

LOADERS = {
    "litert": partial(load_litert, kernels="reference", threads=1),
    "tflm": load_tflm,
}


def trace(model: TfliteModel, program: Program, q: np.ndarray, loader: str) -> dict[str, np.ndarray]:
    """Every value that has a tensor, in the program's layout."""
    wanted = tuple(sorted({at.tensor for at in model.values.values()}))
    session = LOADERS[loader](model, wanted)
    found = dict(zip(wanted, session(model.values[program.input].layout.to_file(q)), strict=True))
    values = {
        name: at.layout.from_file(found[at.tensor], program.values[name].shape)
        for name, at in model.values.items()
    }
    return values | {name: np.repeat(levels[None], len(q), 0) for name, levels in model.constants.items()}


@pytest.mark.parametrize("loader", LOADERS)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    program=st.one_of(
        programs(ops=OPS, modes=("fixed_point",), ranks=(1, 2, 3)),
        programs(ops=OF_IMAGES, modes=("fixed_point",), ranks=(3,)),
    ),
    seed=st.integers(0, 2**32 - 1),
    batch=st.sampled_from([1, 3]),
)
def test_tflite_micro_gives_every_operators_integers_and_litert_a_level_more_or_less(
    loader, program, seed, batch
):
    """LiteRT's reference rounds FULLY_CONNECTED and BATCH_MATMUL in its own way."""
    program = in_form(program, seed)
    if program.output == program.input or problems(program):
        return
    q = random_input(program, batch if loader == "litert" else 1)
    found = trace(program_to_tflite(program, len(q), trace=True), program, q, loader)
    assert found.keys() == program.values.keys()
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(found[name] for name in op.inputs))
        off_by = int(loader == "litert" and op.op in ROUNDED_OTHERWISE)
        assert np.abs(found[op.output].astype(int) - expected).max(initial=0) <= off_by, op


@pytest.mark.parametrize("loader", LOADERS)
def test_a_convolutional_network_gives_the_programs_integers_without_a_transpose(loader):
    program = convolutional()
    model = program_to_tflite(program, trace=True)
    assert Read.of(model).operators == [
        "CONV_2D",
        "PAD",
        "DEPTHWISE_CONV_2D",
        "MAX_POOL_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
    ]
    q = random_input(program, 1)
    found, expected = trace(model, program, q, loader), Interpreter(program).trace(q)
    same = program.values.keys() if loader == "tflm" else program.values.keys() - {"y"}
    for name in same:
        assert found[name].tolist() == expected[name].tolist(), name
    assert (
        np.abs(found["y"].astype(int) - expected["y"]).max() <= 1
    )  # LiteRT rounds FULLY_CONNECTED otherwise


def test_tensors_have_tflites_shapes_scales_and_types():
    read = Read.of(program_to_tflite(convolutional(), batch=2))
    x, a = read.tensor("x"), read.tensor("a")
    assert (x.shape.tolist(), x.type, x.quantization.zeroPoint.tolist()) == (
        [2, 8, 8, 3],
        TensorType.INT8,
        [3],
    )
    assert (a.shape.tolist(), a.quantization.scale.tolist()) == ([2, 8, 8, 8], [0.125])
    depthwise, bias = read.tensor("b/weight"), read.tensor("b/bias")
    assert (depthwise.shape.tolist(), depthwise.quantization.quantizedDimension) == ([1, 3, 3, 8], 3)
    assert (bias.type, bias.quantization.quantizedDimension) == (TensorType.INT32, 0)
    steps = depthwise.quantization.scale * np.float32(0.125)
    assert bias.quantization.scale.tolist() == steps.tolist()
    assert not depthwise.quantization.zeroPoint.any()
    assert read.tensor("a/weight").shape.tolist() == [8, 3, 3, 3]
    assert read.tensor("y").shape.tolist() == [2, 10]


def test_contents_lie_at_multiples_of_16_bytes():
    data = program_to_tflite(convolutional(), metadata={"one": "1"}).data
    assert data[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(data)
    whole = np.frombuffer(data, np.uint8)
    for index in range(1, model.BuffersLength()):
        at = model.Buffers(index).DataAsNumpy().ctypes.data - whole.ctypes.data
        assert at % 16 == 0


def test_metadata_is_a_buffer_an_entry():
    entries = {"classes": '["été", "b"]', "mean": "[0.5]"}
    assert Read.of(program_to_tflite(convolutional(), metadata=entries)).metadata == entries


def test_the_same_program_is_the_same_file():
    assert program_to_tflite(convolutional()).data == program_to_tflite(convolutional()).data


def test_float_ends_quantize_and_dequantize_in_the_file():
    program = convolutional()
    model = program_to_tflite(program, float_io=True)
    read = Read.of(model)
    assert (read.operators[0], read.operators[-1]) == ("QUANTIZE", "DEQUANTIZE")
    q = random_input(program, 1)
    real = ((q.astype(np.float32) - 3) * np.float32(0.0625)).transpose(0, 2, 3, 1).copy()
    (found,) = load_tflm(model, model.outputs)(real)
    expected = (Interpreter(program).run(q).astype(np.float32) - 2) * np.float32(0.25)
    assert found.dtype == np.float32
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("bounds", "fused", "after"),
    [
        ((-128, 127), "NONE", []),
        ((-5, 127), "RELU", []),
        ((-5, 43), "RELU6", []),
        ((-13, 3), "RELU_N1_TO_1", []),
        ((-5, 42), "RELU", ["MINIMUM"]),
        ((-4, 127), "NONE", ["MAXIMUM"]),
        ((-127, 100), "NONE", ["MAXIMUM", "MINIMUM"]),
    ],
)
def test_bounds_are_a_fused_activation_or_follow(bounds, fused, after):
    """With scale 1/8 and zero point −5, 6 is the level 43, ±1 are −13 and 3."""
    x, a = value("x", (3, 8, 8)), value("a", (8, 8, 8), 0.125, -5)
    op = convolution(x, a, act_min=bounds[0], act_max=bounds[1])
    program = Program(values={"x": x, "a": a}, ops=(op,), input="x", output="a")
    model = program_to_tflite(program)
    read = Read.of(model)
    assert read.options("CONV_2D").fusedActivationFunction == getattr(schema.ActivationFunctionType, fused)
    assert read.operators == ["CONV_2D", *after]
    q = random_input(program, 1)
    assert trace(model, program, q, "tflm")["a"].tolist() == Interpreter(program).run(q).tolist()


@pytest.mark.parametrize(
    ("size", "stride", "padding", "kinds"),
    [
        (8, 1, 1, ["CONV_2D"]),
        (7, 2, 1, ["CONV_2D"]),
        (8, 2, 1, ["PAD", "CONV_2D"]),
        (8, 1, 0, ["CONV_2D"]),
        (8, 1, 2, ["PAD", "CONV_2D"]),
    ],
)
def test_what_same_does_not_pad_is_padded_before(size, stride, padding, kinds):
    out = (size + 2 * padding - 3) // stride + 1
    x, a = value("x", (3, size, size), zero_point=9), value("a", (8, out, out), 0.125)
    op = convolution(x, a, stride=stride, padding=(padding, padding))
    program = Program(values={"x": x, "a": a}, ops=(op,), input="x", output="a")
    model = program_to_tflite(program)
    assert Read.of(model).operators == kinds
    q = random_input(program, 1)
    assert trace(model, program, q, "tflm")["a"].tolist() == Interpreter(program).run(q).tolist()


def test_a_network_that_moves_nothing_has_an_output_of_its_own():
    x, y = value("x", (3, 4, 4)), value("y", (3, 4, 4))
    op = Op(op="permute", inputs=("x",), output="y", attrs={"axes": (0, 1, 2)})
    program = Program(values={"x": x, "y": y}, ops=(op,), input="x", output="y")
    q = random_input(program, 1)
    model = program_to_tflite(program)
    assert (
        load_tflm(model, model.outputs)(q.transpose(0, 2, 3, 1).copy())[0].tolist()
        == q.transpose(0, 2, 3, 1).tolist()
    )


def changed(name: str, **changes: Any) -> Program:
    """The convolutional network with an operator changed."""
    program = convolutional()
    ops = [replace(op, **changes) if op.output == name else op for op in program.ops]
    return replace(program, ops=tuple(ops))


def test_what_has_no_form_is_named_with_the_remedy():
    pool = {**convolutional().ops[2].attrs, "dilation": (2, 1)}
    tensors = convolutional().ops[0].tensors
    affine = {**tensors, "weight_zero_point": np.full(8, 9, np.int32)}
    unsigned = replace(value("y", (10,), 0.25, 2), quant_min=0, quant_max=255)
    cases = [
        (changed("p", attrs=pool), "'p' (max_pool2d): dilation=(2, 1). Remedy: a pool without dilation"),
        (changed("a", tensors=affine), "'a' (conv2d): weights span -135..116 around their zero point"),
        (changed("y", inputs=("f", "f")), "'y' (linear): adds a residual. Remedy: convert.arithmetic=tflm"),
        (changed("y", op="layer_norm"), "'y' (layer_norm): no operator of TFLite computes it. Remedy: leave"),
        (
            replace(convolutional(), values={**convolutional().values, "y": unsigned}),
            "'y' (linear): levels 0..255 are not int8, as the input's are. Remedy: convert.arithmetic=tflm",
        ),
    ]
    assert problems(convolutional()) == []
    for program, text in cases:
        (found,) = problems(program)
        assert found.startswith(text)
        assert "Remedy: " in found
        with pytest.raises(ValueError, match=re.escape(text)):
            program_to_tflite(program)


def test_all_that_has_no_form_is_said_at_once():
    program = changed("a", op="island")
    program = replace(program, ops=(*program.ops[:-1], replace(program.ops[-1], op="layer_norm")))
    assert [text.split(":")[0] for text in problems(program)] == ["'a' (island)", "'y' (layer_norm)"]


@pytest.mark.parametrize("kernels", ["reference", "optimized", "xnnpack"])
def test_weights_of_4_bits_are_two_a_byte_where_asked_and_mean_the_same(kernels):
    """LiteRT may choose other kernels for them, which round otherwise."""
    program = convolutional()
    ops = []
    for op in program.ops:
        tensors = dict(op.tensors)
        if op.output in ("a", "b"):
            tensors["weight"] = np.clip(tensors["weight"] // 16, -8, 7)
        ops.append(replace(op, tensors=tensors))
    program = replace(program, ops=tuple(ops))
    model = program_to_tflite(program, int4=True, trace=True)
    read = Read.of(model)
    types = [read.tensor(f"{name}/weight").type for name in ("a", "b", "y")]
    assert types == [TensorType.INT4, TensorType.INT4, TensorType.INT8]  # the last one's need 8
    assert len(read.model.buffers[read.tensor("a/weight").buffer].data) == 8 * 27 // 2
    q = random_input(program, 1)
    wide = program_to_tflite(program, trace=True)
    found, expected = (
        load_litert(one, one.outputs, kernels=kernels, threads=1)(q.transpose(0, 2, 3, 1).copy())
        for one in (model, wide)
    )
    for levels, wanted in zip(found, expected, strict=True):
        assert np.abs(levels.astype(int) - wanted).max() <= 1


def unsigned(program: Program) -> Program:
    """The same integers 128 higher, with one scale a layer: a network of uint8, as the first ones were."""
    values = {
        name: replace(one, zero_point=one.zero_point + 128, quant_min=0, quant_max=255)
        for name, one in program.values.items()
    }
    ops = []
    for op in program.ops:
        attrs, tensors = dict(op.attrs), dict(op.tensors)
        attrs |= {name: attrs[name] + 128 for name in ("act_min", "act_max") if name in attrs}
        if "weight" in tensors:
            names = ("weight_scale", "weight_zero_point", "multiplier", "shift", "ratio")
            tensors |= {name: tensors[name][:1] for name in names}
            tensors["weight_zero_point"] = np.array([131], np.int32)
            tensors["weight"] = (np.clip(tensors["weight"], -128, 124).astype(np.int16) + 131).astype(
                np.uint8
            )
        ops.append(replace(op, attrs=attrs, tensors=tensors))
    return replace(program, values=values, ops=tuple(ops))


def test_a_network_of_uint8_keeps_its_zero_points():
    """LiteRT alone runs them."""
    program = unsigned(convolutional())
    model = program_to_tflite(program, trace=True)
    read = Read.of(model)
    weight = read.tensor("a/weight")
    assert (weight.type, weight.quantization.zeroPoint.tolist()) == (TensorType.UINT8, [131])
    assert (read.tensor("x").type, read.tensor("y").type) == (TensorType.UINT8, TensorType.UINT8)
    q = random_input(program, 2)
    found, expected = (
        trace(program_to_tflite(program, 2, trace=True), program, q, "litert"),
        Interpreter(program).trace(q),
    )
    for name, levels in expected.items():
        assert np.abs(found[name].astype(int) - levels).max() <= 1, name


def test_uint8_has_one_scale_a_layer():
    program = unsigned(convolutional())
    first = program.ops[0]
    tensors = {**first.tensors, "weight_scale": np.full(8, 0.01, np.float32)}
    program = replace(program, ops=(replace(first, tensors=tensors), *program.ops[1:]))
    (why,) = problems(program)
    assert why.startswith(
        "'a' (conv2d): has uint8 levels, for which TFLite's weights have one scale. Remedy:"
    )


def test_operators_that_are_refused_alike_are_said_together():
    program = convolutional()
    layers = [replace(op, op="island") if "weight" in op.tensors else op for op in program.ops]
    why = "no operator of TFLite computes it. Remedy: leave this export out, or a network without it"
    assert problems(replace(program, ops=tuple(layers))) == [f"'a', 'b', 'y' (island): {why}"]
    everything = [replace(op, op="island") for op in program.ops]
    assert problems(replace(program, ops=tuple(everything))) == [f"'a', 'b', 'p', … (island): {why}"]


def test_a_network_that_does_not_read_its_input_is_refused():
    x, y = value("x", (4,)), value("y", (4,))
    op = Op(op="constant", inputs=("x",), output="y", tensors={"levels": np.zeros(4, np.int8)})
    program = Program(values={"x": x, "y": y}, ops=(op,), input="x", output="y")
    assert problems(program) == [
        "'y' (constant): is the network's output. Remedy: a network that reads its input"
    ]
