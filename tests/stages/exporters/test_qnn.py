"""The exporter of files for Qualcomm's HTP."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from stages.data.description import Description
from stages.exporters.exporter import exporters
from stages.exporters.qnn import EXPORTER, QnnHtp
from tests.stages.exporters.examples import X, Y, layer


@pytest.fixture
def program():
    program = layer({"x": X, "y": Y}, residual=False)
    tensors = {**program.ops[0].tensors, "weight_zero_point": np.zeros(2, np.int32)}
    return replace(program, ops=(replace(program.ops[0], tensors=tensors),))


def test_the_file_has_a_fixed_batch_and_says_what_it_takes(program, tmp_path):
    exporter = QnnHtp(batch=4)
    assert exporter.refusals(program) == []
    description = Description(shape=(2,), mean=(0.5,), std=(0.25,), classes=("cat", "dog"))
    model = onnx.load(exporter.write(program, description, tmp_path))
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [4, 2]
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found.items() >= description.metadata().items()


def test_what_has_no_form_is_refused():
    (reason,) = QnnHtp().refusals(layer({"x": X, "y": Y}, residual=False))
    assert reason.startswith("y: HTP takes weights with a scale a channel only where")


def test_a_batch_below_one_is_refused():
    with pytest.raises(ValueError, match="batch=0: must be at least 1: HTP takes no open number of samples"):
        QnnHtp(batch=0)


def test_it_is_found():
    assert EXPORTER in [type(exporter) for exporter in exporters()]


@pytest.mark.parametrize("version", ["2.0.0", "1.0.0"])
def test_the_float_graph_and_its_encodings_lie_beside_it(program, version, tmp_path):
    QnnHtp(encodings=version).write(program, Description(shape=(2,)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "encodings.json",
        "model.onnx",
        "model_float.onnx",
    ]
    document = json.loads((tmp_path / "encodings.json").read_text(encoding="utf-8"))
    entries = document.get("encodings") or document["activation_encodings"] + document["param_encodings"]
    graph = onnx.load(tmp_path / "model_float.onnx").graph
    tensors = {name for node in graph.node for name in (*node.input, *node.output)}
    assert document["version"] == version
    assert {entry["name"] for entry in entries} <= tensors
