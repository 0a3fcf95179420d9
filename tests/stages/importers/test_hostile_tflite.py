"""Files that are damaged, or were made to do damage: a ValueError each, soon, and without much memory."""

from __future__ import annotations

import time

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from stages.exporters.tflite_file.model import program_to_tflite
from stages.importers.tflite import program_of
from stages.importers.tflite_file.contents import parse
from tests.stages.exporters.tflite_file.networks import convolutional
from tests.stages.importers.tflite_models import Tensor, constant, file_of, levels


def outcome(data: bytes) -> str:
    """What reading says; any other error than ValueError leaves through."""
    try:
        program_of(parse(data))
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def network() -> bytes:
    return program_to_tflite(convolutional()).data


def test_any_byte_may_be_any_other(network):
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(800):
        data = bytearray(network)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        refused += bool(outcome(bytes(data)))
    assert refused > 30


def test_any_word_may_be_any_number(network):
    rng = np.random.default_rng(1)
    for _ in range(800):
        data = np.frombuffer(network[: len(network) // 4 * 4], np.uint32).copy()
        # tables lie at the end of the file, and in front of all else
        at = rng.integers(0, min(200, len(data))) if rng.random() < 0.3 else rng.integers(len(data))
        data[at] = rng.choice([0, 1, 4, 2**16, 2**31 - 1, 2**31, 2**32 - 1, rng.integers(2**32)])
        outcome(data.tobytes())


def test_any_length_is_refused(network):
    for size in np.linspace(0, len(network) - 1, 80).astype(int):
        assert outcome(network[:size])


def test_a_list_that_is_named_over_and_over_takes_no_time():
    x, y = levels(1, 8), levels(1, 8)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(file_of("RELU", [x], y), 0))
    import flatbuffers

    (operator,) = model.subgraphs[0].operators
    operator.inputs = [0] * 20000
    builder = flatbuffers.Builder(1 << 20)
    place = operator.Pack(builder)
    operator.Pack = lambda _: place  # the same table for all
    model.subgraphs[0].operators = [operator] * 20000
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    start = time.monotonic()
    assert "over and over" in outcome(bytes(builder.Output()))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "options", "says"),
    [
        ("RELU", [levels(1, 2**20, 2**20)], levels(1, 8), None, "268435456 elements at most"),
        ("RELU", [levels(1, -3)], levels(1, 8), None, "sizes must be known"),
        ("RELU", [levels(1, 8)], levels(1, 9), None, "gives shape"),
        ("RELU", [levels(1, 8)], levels(2, 8), None, "must begin with the batch, 1"),
        ("RELU", [Tensor(shape=(1, 8), scale=(0.1, 0.2))], levels(1, 8), None, "has 2 scales"),
        ("RELU", [Tensor(shape=(1, 8), scale=(0.1,), zero_point=300)], levels(1, 8), None, "zero point 300"),
        ("RELU", [Tensor(shape=(1, 8), scale=(float("inf"),))], levels(1, 8), None, "positive and finite"),
        ("RELU", [levels(1, 8, dtype="int16")], levels(1, 8), None, "is int16: activations must be int8"),
        ("SOFTMAX", [levels(1, 8)], levels(1, 8), schema.SoftmaxOptionsT(beta=2.0), "beta=2.0: must be 1"),
        ("COS", [levels(1, 8)], levels(1, 8), None, "has no form in integers here"),
        (
            "FULLY_CONNECTED",
            [levels(1, 8), constant(np.ones((5, 7), np.int8), 0.1)],
            levels(1, 5),
            schema.FullyConnectedOptionsT(),
            "weight of shape (5, 7) for an input of shape (8,)",
        ),
        (
            "FULLY_CONNECTED",
            [levels(1, 8), constant(np.ones((5, 8), np.int8), 0.1, zero_point=4)],
            levels(1, 5),
            schema.FullyConnectedOptionsT(),
            "zero points 4..4 of int8 weights",
        ),
        (
            "FULLY_CONNECTED",
            [
                levels(1, 8),
                constant(np.ones((5, 8), np.int8), 0.1),
                constant(np.full(5, 2**31 - 1, np.int32)),
            ],
            levels(1, 5),
            schema.FullyConnectedOptionsT(),
            "can reach",
        ),
        (
            "AVERAGE_POOL_2D",
            [levels(1, 4, 4, 1)],
            levels(1, 2, 2, 1),
            schema.Pool2DOptionsT(filterHeight=2, filterWidth=2),
            "stride (0, 0)",
        ),
        (
            "TRANSPOSE",
            [levels(1, 4, 4), constant(np.array([1, 0, 2], np.int32))],
            levels(1, 4, 4),
            schema.TransposeOptionsT(),
            "must leave the batch first",
        ),
        (
            "PAD",
            [levels(1, 4), constant(np.array([[0, 0], [2**30, 2**30]], np.int32))],
            levels(1, 4),
            schema.PadOptionsT(),
            "at most 16777216",
        ),
        ("LOGISTIC", [levels(1, 4)], levels(1, 4), None, "must be 1/256 and -128"),
    ],
)
def test_what_has_no_form_is_named_with_its_constraint(kind, inputs, output, options, says):
    assert says in outcome(file_of(kind, inputs, output, options))
