"""The form for TensorRT says what the program says, and breaks none of TensorRT's rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from stages.backends.onnxruntime import OnnxRuntime, load_session
from stages.exporters.onnx_graph.tensorrt import program_to_tensorrt
from stages.exporters.onnx_graph.tensorrt_rules import violations
from stages.exporters.tensorrt import TensorRt
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Program
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from tests.stages.exporters.examples import X, Y, consistent, layer, rounds, symmetric
from tests.stages.exporters.onnx_graph.test_qdq import dequantized
from tests.stages.integer.strategies import programs, random_input

PROGRAMS = programs(modes=("float",)).map(symmetric).map(consistent)
SIGNED = "Remedy: quantizer=symmetric quantizer.activation.signed=true"


@pytest.mark.parametrize("optimization", ["disabled", "all"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(program=PROGRAMS, samples=st.integers(1, 3))
def test_every_operator_is_within_one_level(optimization, program, samples):
    model = program_to_tensorrt(program, samples, clip_narrow=True, trace=True)
    session = load_session(model.SerializeToString(), 1, optimization)
    x = dequantized(program, random_input(program, samples))
    trace = dict(zip(program.values, session(x)[1:], strict=True))
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs)).astype(int)
        assert trace[op.output].dtype == np.int8
        assert np.abs(trace[op.output] - expected).max(initial=0) <= rounds(op), op.op


@settings(max_examples=60, deadline=None, derandomize=True)
@given(program=PROGRAMS, opset=st.sampled_from([17, 21, 25]))
def test_no_rule_is_broken_and_the_model_is_valid(program, opset):
    model = program_to_tensorrt(program, opset=opset)
    onnx.checker.check_model(model, full_check=True)
    # an operator that is but a ReLU has levels to read, of a layer that has a result of its own
    broken = {one.rule for one in violations(model)} - {"between"}
    assert broken == set()


def shortcut(act_min: int, act_max: int) -> Program:
    """A layer with residual and bounds on signed, symmetric values."""
    program = symmetric(layer({"x": X, "y": Y}, residual=True))
    (op,) = program.ops
    return replace(program, ops=(replace(op, attrs={**op.attrs, "act_min": act_min, "act_max": act_max}),))


@pytest.mark.parametrize(
    ("act_min", "act_max", "clip_narrow", "expected"),
    [
        (0, 127, False, ["Relu"]),
        (0, 90, False, ["Clip"]),
        (-127, 127, False, []),
        (-127, 127, True, ["Clip"]),
        (-20, 127, False, ["Clip"]),
    ],
)
def test_bounds_are_float_and_a_residual_is_added_before_them(act_min, act_max, clip_narrow, expected):
    program = shortcut(act_min, act_max)
    model = program_to_tensorrt(program, clip_narrow=clip_narrow, trace=True)
    kinds = [node.op_type for node in model.graph.node]
    pair = ["QuantizeLinear", "DequantizeLinear"]
    assert kinds == [
        *(["Clip"] if clip_narrow else []),
        *pair,
        "DequantizeLinear",
        "Gemm",
        "Add",
        *expected,
        *pair,
        "Identity",
    ]
    q = np.random.default_rng(0).integers(-127, 128, (300, 2)).astype(np.int8)
    levels = load_session(model.SerializeToString(), 1)(dequantized(program, q))[2]
    reference = prepare_kernel(program.ops[0], program)(q, q)
    assert np.maximum(levels, -127).tolist() == reference.tolist()
    assert (levels.min() == -128) == (act_min == -127 and not clip_narrow)


def test_biases_are_float_and_weights_have_a_scale_a_channel():
    program = symmetric(layer({"x": X, "y": Y}, residual=False))
    (op,) = program.ops
    one_scale = {"weight_scale": np.array([0.5], np.float32), "weight_zero_point": np.zeros(1, np.int32)}
    program = replace(program, ops=(replace(op, tensors={**op.tensors, **one_scale}),))
    tensors = {
        one.name: onnx.numpy_helper.to_array(one) for one in program_to_tensorrt(program).graph.initializer
    }
    assert tensors["y/bias"].dtype == np.float32
    assert tensors["y/bias"].tolist() == [10 * 0.5 * 0.5, -4 * 0.5 * 0.5]
    assert tensors["y/weight/scale"].tolist() == [0.5, 0.5]
    assert tensors["y/weight"].dtype == tensors["y/weight/zero_point"].dtype == np.int8


def unsigned(**changes: int) -> Program:
    program = symmetric(layer({"x": X, "y": Y}, residual=False))
    return replace(program, values={**program.values, "y": replace(program.values["y"], **changes)})


def weights(**tensors: np.ndarray) -> Program:
    program = symmetric(layer({"x": X, "y": Y}, residual=False))
    (op,) = program.ops
    return replace(program, ops=(replace(op, tensors={**op.tensors, **tensors}),))


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (unsigned(zero_point=3), f"int8 is symmetric, and zero points are not 0 (y). {SIGNED}"),
        (unsigned(quant_min=0, quant_max=254), f"int8 holds no levels 0..254 (y). {SIGNED}"),
        (
            unsigned(quant_max=32767),
            "int8 holds no levels of more than 8 bits (y). Remedy: quantizer.residual_bits=8",
        ),
        (
            weights(weight_zero_point=np.array([0, 1], np.int32)),
            "weights have zero points (y). Remedy: quantizer=symmetric",
        ),
        (
            weights(weight=np.ones((2, 2), np.uint8)),
            "weights are unsigned (y). Remedy: quantizer.weight.signed=true",
        ),
    ],
)
def test_what_int8_does_not_hold_is_refused_with_the_remedy(program, text):
    assert TensorRt().refusals(program) == [text]
    with pytest.raises(PipelineError, match="backend=onnxruntime, form=tensorrt: "):
        OnnxRuntime(form="tensorrt").compile(program)


def test_fewer_unsigned_levels_fit_as_they_are():
    program = unsigned(quant_min=0, quant_max=127)
    (op,) = program.ops
    program = replace(program, ops=(replace(op, attrs={"act_min": 0, "act_max": 127}),))
    assert TensorRt().refusals(program) == []
    q = random_input(program, 100)
    found = OnnxRuntime(threads=1, form="tensorrt").compile(program).run(q)
    assert found.dtype == np.uint8
    assert found.tolist() == prepare_kernel(program.ops[0], program)(q).tolist()


SCHEMES = {
    "signed": (Symmetric(signed=True), {}, []),
    "by the data": (
        Symmetric(),
        {},
        [f"quantizer.activation: levels 0..254 behind a ReLU. {SIGNED}"],
    ),
    "of 7 bits": (Symmetric(bits=7), {}, []),
    "affine": (Affine(), {}, [f"quantizer.activation: a zero point. {SIGNED}"]),
    "affine and signed": (Affine(signed=True), {}, [f"quantizer.activation: a zero point. {SIGNED}"]),
    "a rule": (
        Symmetric(signed=True),
        {"layers": {"conv*": {"activation": Affine(), "weight": 8}, "fc": "float"}},
        [f"quantizer.layers.conv*.activation: a zero point. {SIGNED}"],
    ),
    "weights": (
        Symmetric(signed=True),
        {"weight": Affine(signed=True)},
        ["quantizer.weight: a zero point. Remedy: symmetric weights, as with quantizer=symmetric"],
    ),
    "a stream": (
        Symmetric(signed=True),
        {"residual_bits": 16},
        ["quantizer.residual_bits=16: int8 holds no more than 8 bits. Remedy: 8 or null"],
    ),
    "float": (None, {}, []),
}


@pytest.mark.parametrize("case", SCHEMES)
def test_schemes_without_a_form_are_known_before_a_run(case):
    activation, others, expected = SCHEMES[case]
    given = {"weight": Symmetric(signed=True), "activation": activation, **others}
    assert list(TensorRt().misfits(WeightsAndActivations(**given))) == expected


def test_the_exporter_writes_what_its_options_say(tmp_path):
    program = shortcut(-127, 127)
    assert TensorRt().refusals(program) == []
    model = onnx.load(TensorRt(batch=2, opset=21, clip_narrow=True).write(program, None, tmp_path))
    assert model.opset_import[0].version == 21
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert [node.op_type for node in model.graph.node].count("Clip") == 2
