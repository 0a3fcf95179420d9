"""Float graph and encodings together are the QDQ graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx import helper, numpy_helper

from stages.exporters.onnx_graph.encodings import Encoding, encodings_document, take_apart
from stages.exporters.onnx_graph.qnn import program_to_qnn
from stages.exporters.onnx_graph.qnn_rules import qnn_refusals
from tests.stages.exporters.examples import X, Y, consistent, layer
from tests.stages.integer.strategies import programs, random_input


def quantized(model: onnx.ModelProto, document: dict) -> onnx.ModelProto:
    """`model` with a Quantize- and DequantizeLinear behind every tensor that has an entry."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    entries = {entry["name"]: entry for entry in document["encodings"]}
    after: dict[str, list[onnx.NodeProto]] = {}
    for name, entry in entries.items():
        dtype, along = np.dtype(entry["output_dtype"]), {"axis": entry["axis"]} if "axis" in entry else {}
        if dtype == np.int32:  # QuantizeLinear has no int32, and a bias is on its grid already
            continue
        scale, zero_point = np.array(entry["y_scale"], np.float32), np.array(entry["y_zero_point"], dtype)
        for role, array in (("s", scale), ("z", zero_point)):
            model.graph.initializer.append(numpy_helper.from_array(array, f"{name}.{role}"))
        pair = [
            helper.make_node("QuantizeLinear", [name, f"{name}.s", f"{name}.z"], [f"{name}.q"], **along),
            helper.make_node(
                "DequantizeLinear", [f"{name}.q", f"{name}.s", f"{name}.z"], [f"{name}.r"], **along
            ),
        ]
        after[name] = pair
    produced = {output for node in model.graph.node for output in node.output}
    nodes = [node for name, pair in after.items() if name not in produced for node in pair]
    for node in model.graph.node:
        node.input[:] = [f"{name}.r" if name in after else name for name in node.input]
        nodes.append(node)
        nodes += after.get(node.output[0], [])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (y,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"input": x})
    return y


@settings(max_examples=40, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent))
def test_quantizing_the_float_graph_by_its_encodings_gives_the_qdq_graph(program):
    if qnn_refusals(program):
        return
    model = program_to_qnn(program, 2)
    apart, encodings = take_apart(program_to_qnn(program, 2, units=False))
    onnx.checker.check_model(apart, full_check=True)
    kinds = {node.op_type for node in apart.graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    value = program.values[program.input]
    q = random_input(program, 2).astype(np.float32)
    x = (q - value.zero_point) * np.float32(value.scale)
    again = quantized(apart, encodings_document(encodings, "2.0.0"))
    assert run(again, x).tolist() == run(model, x).tolist()


def test_the_float_graph_has_the_activation_that_levels_imply():
    """Behind a zero point of 0, uint8 is a ReLU: the float graph needs it by name."""
    program = layer({"x": X, "y": replace(Y, quant_max=255, zero_point=0)}, residual=False)
    tensors = {**program.ops[0].tensors, "weight_zero_point": np.zeros(2, np.int32)}
    program = replace(program, ops=(replace(program.ops[0], tensors=tensors),))
    assert "Relu" not in {node.op_type for node in program_to_qnn(program).graph.node}
    apart, _ = take_apart(program_to_qnn(program, units=False))
    assert [node.op_type for node in apart.graph.node] == ["Gemm", "Relu", "Identity"]


@pytest.mark.parametrize(
    ("zero_point", "offset", "symmetric"),
    [
        (np.uint8(41), -41, False),
        (np.uint8(0), 0, False),
        (np.int8(0), -128, True),
        (np.int8(5), -133, False),
        (np.uint16(32768), -32768, False),
        (np.int32(0), -(2**31), True),
    ],
)
def test_an_offset_is_the_negative_of_the_zero_point_on_the_unsigned_grid(zero_point, offset, symmetric):
    """``scale · (q + offset)``, q from 0 on, is ``scale · (q' − zero_point)``, q' from the dtype's least."""
    encoding = Encoding(
        name="t", scale=np.array(0.5, np.float32), zero_point=np.array(zero_point), axis=None, parameter=False
    )
    entry, bits = encoding.in_qnn_words(), 8 * zero_point.itemsize
    assert entry == {
        "name": "t",
        "enc_type": "PER_TENSOR",
        "dtype": "INT",
        "bw": bits,
        "is_sym": symmetric,
        "scale": [0.5],
        "offset": [offset],
    }
    least = np.iinfo(zero_point.dtype).min
    for level in (0, 1, 200):
        assert entry["scale"][0] * (level + entry["offset"][0]) == 0.5 * (level + least - int(zero_point))


def test_the_documents_have_the_schemas_words():
    program = layer({"x": X, "y": replace(Y, quant_max=255)}, residual=False)
    tensors = {**program.ops[0].tensors, "weight_zero_point": np.zeros(2, np.int32)}
    _, encodings = take_apart(
        program_to_qnn(replace(program, ops=(replace(program.ops[0], tensors=tensors),)))
    )
    new = encodings_document(encodings, "2.0.0")
    assert new["version"] == "2.0.0"
    assert {entry["name"]: entry for entry in new["encodings"]} == {
        "input": {"name": "input", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 125},
        "y/weight": {
            "name": "y/weight",
            "output_dtype": "int8",
            "y_scale": [0.5, 0.25],
            "y_zero_point": [0, 0],
            "axis": 0,
        },
        "y/bias": {
            "name": "y/bias",
            "output_dtype": "int32",
            "y_scale": [0.25, 0.125],
            "y_zero_point": [0, 0],
            "axis": 0,
        },
        "y": {"name": "y", "output_dtype": "uint8", "y_scale": 4.0, "y_zero_point": 7},
    }
    old = encodings_document(encodings, "1.0.0")
    assert [entry["name"] for entry in old["activation_encodings"]] == ["input", "y"]
    assert [entry["offset"] for entry in old["activation_encodings"]] == [[-125], [-7]]
    assert [(e["name"], e["enc_type"], e["bw"], e["offset"]) for e in old["param_encodings"]] == [
        ("y/weight", "PER_CHANNEL", 8, [-128, -128]),
        ("y/bias", "PER_CHANNEL", 32, [-(2**31)] * 2),
    ]
    assert old["excluded_layers"] == []
    assert old["quantizer_args"]["per_channel_quantization"] is True
