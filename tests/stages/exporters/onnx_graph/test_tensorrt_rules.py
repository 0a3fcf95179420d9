"""Each rule, kept by one graph and broken by a change of it; and what onnxruntime's own quantizer writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from stages.exporters.onnx_graph.tensorrt_rules import Rule, violations


def graph() -> onnx.ModelProto:
    """``y = Q(relu(conv(x) + x))``, as TensorRT wants it, and a product of two values."""
    constants = {
        "s": np.array(0.5, np.float32),
        "z": np.array(0, np.int8),
        "w": np.ones((3, 3, 1, 1), np.int8),
        "ws": np.array([0.25, 0.5, 1.0], np.float32),
        "wz": np.zeros(3, np.int8),
        "b": np.ones(3, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x/q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["x/q", "s", "z"], ["x/dq"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["w/dq"], name="weight", axis=0),
        helper.make_node("Conv", ["x/dq", "w/dq", "b"], ["c"], name="conv"),
        helper.make_node("Add", ["c", "x/dq"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["r"], name="relu"),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["r/q"], name="quantize_sum"),
        helper.make_node("DequantizeLinear", ["r/q", "s", "z"], ["r/dq"], name="dequantize_sum"),
        helper.make_node("MatMul", ["r/dq", "x/dq"], ["y"], name="product"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(one for one in model.graph.node if one.name == name)


def constant(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    """Set or add one."""
    (place, *_) = [i for i, one in enumerate(model.graph.initializer) if one.name == name] or [None]
    if place is not None:
        del model.graph.initializer[place]
    model.graph.initializer.append(numpy_helper.from_array(array, name))


def insert(model: onnx.ModelProto, kind: str, source: str, reader: str, place: int, *extra: str) -> None:
    """A node between `source` and an input of a reader."""
    new = helper.make_node(kind, [source, *extra], [f"{source}/{kind}"], name=kind.lower())
    node(model, reader).input[place] = new.output[0]
    model.graph.node.append(new)


def quantized_before_relu(model: onnx.ModelProto) -> None:
    """The convolution's result quantized, and nothing added."""
    insert(model, "QuantizeLinear", "c", "relu", 0, "s", "z")
    insert(model, "DequantizeLinear", "c/QuantizeLinear", "relu", 0, "s", "z")


def quantized_bias(model: onnx.ModelProto) -> None:
    constant(model, "b", np.ones(3, np.int8))
    insert(model, "DequantizeLinear", "b", "conv", 2, "ws", "wz")


def bias_of_int32(model: onnx.ModelProto) -> None:
    constant(model, "b", np.ones(3, np.int32))
    constant(model, "bz", np.zeros(3, np.int32))
    insert(model, "DequantizeLinear", "b", "conv", 2, "ws", "bz")


BROKEN: dict[str, tuple[Callable[[onnx.ModelProto], object], list[str]]] = {
    "a product of another domain": (
        lambda m: setattr(node(m, "product"), "domain", "com.microsoft"),
        ["operator: 'product': MatMul of domain com.microsoft is not ONNX's"],
    ),
    "an integer operator": (
        lambda m: setattr(node(m, "product"), "op_type", "MatMulInteger"),
        ["operator: 'product': MatMulInteger is not read"],
    ),
    "uint8": (
        lambda m: constant(m, "z", np.array(0, np.uint8)),
        ["type: 'quantize': gives uint8", "type: 'quantize_sum': gives uint8"],
    ),
    "no zero point": (lambda m: node(m, "quantize").input.pop(), ["type: 'quantize': gives uint8"]),
    "a weight of uint8": (
        lambda m: (
            constant(m, "w", np.ones((3, 3, 1, 1), np.uint8)),
            constant(m, "wz", np.zeros(3, np.uint8)),
        ),
        ["type: 'weight': reads a constant of uint8"],
    ),
    "a zero point": (
        lambda m: constant(m, "wz", np.array([0, 3, 0], np.int8)),
        ["zero_point: 'weight': the zero point is 3"],
    ),
    "a computed zero point": (
        lambda m: insert(m, "Identity", "wz", "weight", 2),
        ["zero_point: 'weight': the zero point 'wz/Identity' is computed"],
    ),
    "a scale of 0": (
        lambda m: constant(m, "ws", np.array([1, 0, 1], np.float32)),
        ["scale: 'weight': the scale is 0"],
    ),
    "an infinite scale": (
        lambda m: constant(m, "ws", np.array([1, np.inf, 1], np.float32)),
        ["scale: 'weight': the scale is inf"],
    ),
    "a computed scale": (
        lambda m: insert(m, "Identity", "s", "quantize", 1),
        ["scale: 'quantize': the scale 's/Identity' is computed"],
    ),
    "levels that are moved": (
        lambda m: insert(m, "Identity", "x/q", "dequantize", 0),
        ["pairs: 'quantize': feeds Identity", "pairs: 'dequantize': reads Identity"],
    ),
    "levels that are an output": (
        lambda m: m.graph.output.append(helper.make_tensor_value_info("r/q", TensorProto.INT8, None)),
        ["pairs: 'quantize_sum': gives an output of the graph"],
    ),
    "an input that stays float": (
        lambda m: node(m, "conv").input.__setitem__(0, "x"),
        ["inputs: 'conv': the input of Conv is not quantized"],
    ),
    "one factor that stays float": (
        lambda m: node(m, "product").input.__setitem__(1, "x"),
        ["inputs: 'product': the second factor of MatMul is not quantized"],
    ),
    "one scale for all channels": (
        lambda m: (
            constant(m, "ws", np.array(0.5, np.float32)),
            constant(m, "wz", np.array(0, np.int8)),
        ),
        ["weights: 'conv': one scale for 3 channels along axis 0"],
    ),
    "scales of input channels": (
        lambda m: setattr(node(m, "weight").attribute[0], "i", 1),
        ["weights: 'conv': 3 scales along axis 1 for 3 channels along axis 0"],
    ),
    "a value with a scale a channel": (
        lambda m: [node(m, name).input.__setitem__(1, "ws") for name in ("quantize", "dequantize")],
        ["weights: 'dequantize': a value has 3 scales"],
    ),
    "a bias of int8": (quantized_bias, ["bias: 'conv': the bias of Conv is quantized"]),
    "a bias of int32": (
        bias_of_int32,
        [
            "bias: 'conv': the bias of Conv is quantized",
            "type: 'dequantizelinear': reads a constant of int32",
        ],
    ),
    "a residual that stays float": (
        lambda m: node(m, "add").input.__setitem__(1, "x"),
        ["residual: 'add': adds 'x', which is float, to a layer's result"],
    ),
    "a layer's result before its ReLU": (
        quantized_before_relu,
        ["between: 'quantizelinear': stands between Conv and Relu"],
    ),
}


def test_the_graph_that_is_broken_below_breaks_nothing():
    assert violations(graph()) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named_with_the_node_and_a_remedy(case):
    change, expected = BROKEN[case]
    model = graph()
    change(model)
    found = [str(one) for one in violations(model)]
    assert [one.split(". Remedy: ")[0] for one in found] == expected
    assert all(one.split(". Remedy: ")[1] for one in found)


def test_every_rule_is_broken_above():
    broken = {line.split(":")[0] for _, lines in BROKEN.values() for line in lines}
    assert broken == set(get_args(Rule))


def test_float_layers_and_constants_of_all_kinds_keep_the_rules():
    model = graph()
    constant(model, "wf", np.ones((3, 3, 1, 1), np.float32))
    node(model, "conv").input[1] = "wf"  # stays float
    assert violations(model) == []
    model = graph()
    for i, one in enumerate(model.graph.initializer):
        if one.name == "s":
            model.graph.node.insert(0, helper.make_node("Constant", [], ["s"], value=one))
            del model.graph.initializer[i]
            break
    assert violations(model) == []


def test_a_weight_may_be_quantized_in_the_graph():
    model = graph()
    constant(model, "w", np.ones((3, 3, 1, 1), np.float32))
    insert(model, "QuantizeLinear", "w", "weight", 0, "ws", "wz")
    assert violations(model) == []
    constant(model, "ws", np.ones(1, np.float32))
    assert [one.rule for one in violations(model)] == ["weights"]


def test_nested_graphs_are_walked():
    model, inner = graph(), graph()
    node(inner, "quantize").input.pop()
    del inner.graph.input[:]
    branch = helper.make_node(
        "If", ["flag"], ["z2"], name="if", then_branch=inner.graph, else_branch=inner.graph
    )
    model.graph.node.append(branch)
    assert [(one.rule, one.node) for one in violations(model)] == [("type", "quantize")] * 2


class Noise(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.batches = iter([{"x": rng.normal(size=(4, 3, 8, 8)).astype(np.float32)}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def network(path: Path) -> Path:
    """Convolutions with a shortcut, pools and a linear layer, in float."""
    rng, tensors = np.random.default_rng(1), []

    def weights(name: str, *shape: int) -> str:
        tensors.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
        return name

    nodes = [
        helper.make_node("Conv", ["x", weights("w1", 4, 3, 3, 3), weights("b1", 4)], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", weights("w2", 4, 4, 3, 3), weights("b2", 4)], ["c2"], pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["s"]),
        helper.make_node("Relu", ["s"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", weights("w3", 5, 4), weights("b3", 5)], ["y"], transB=1),
    ]
    for one in nodes:
        one.name = one.output[0]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in (("x", (3, 8, 8)), ("y", (5,)))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    onnx.save(model, path)
    return path


SYMMETRIC = {"ActivationSymmetric": True, "QuantizeBias": False}
BEHIND = {**SYMMETRIC, "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm"]}


@pytest.mark.parametrize(
    ("form", "kind", "per_channel", "extra", "expected"),
    [
        (QuantFormat.QDQ, QuantType.QInt8, True, BEHIND, set()),
        (QuantFormat.QDQ, QuantType.QInt8, False, BEHIND, {"weights"}),
        (QuantFormat.QDQ, QuantType.QInt8, True, SYMMETRIC, {"between"}),
        (QuantFormat.QDQ, QuantType.QInt8, True, {**BEHIND, "QuantizeBias": True}, {"bias", "type"}),
        (QuantFormat.QDQ, QuantType.QUInt8, True, {}, {"bias", "type", "zero_point"}),
        (QuantFormat.QOperator, QuantType.QUInt8, True, {}, {"operator", "pairs", "type", "zero_point"}),
    ],
)
def test_files_of_onnxruntimes_quantizer_are_judged(tmp_path, form, kind, per_channel, extra, expected):
    path = tmp_path / "quantized.onnx"
    quantize_static(
        network(tmp_path / "float.onnx"),
        path,
        Noise(),
        quant_format=form,
        activation_type=kind,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        extra_options=extra,
    )
    assert {one.rule for one in violations(onnx.load(path))} == expected
