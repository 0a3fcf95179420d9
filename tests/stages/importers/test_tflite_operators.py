"""Each operator of a TFLite file, alone: its integers are tflite-micro's, of any scales and shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from stages.importers.tflite import program_of
from stages.importers.tflite_file.contents import parse
from stages.integer.interpreter import Interpreter
from tests.stages.importers.tflite_models import Tensor, by_tflite_micro, constant, file_of, levels

RNG = np.random.default_rng(5)
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)


def check(kind: str, inputs: list[Tensor], output: Tensor, options: Any = None, samples: int = 20) -> None:
    """The program of a file of one operator gives tflite-micro's integers."""
    data = file_of(kind, inputs, output, options)
    program = program_of(parse(data))
    (first,) = (one for one in inputs if one.content is None)
    q = RNG.integers(-128, 128, (samples, *first.shape[1:])).astype(np.int8)
    q.reshape(samples, -1)[0] = 127
    q.reshape(samples, -1)[1] = -128
    expected = by_tflite_micro(data, q)
    ours = Interpreter(program, threads=1).run(q.transpose(0, 3, 1, 2) if q.ndim == 4 else q)
    ours = ours.transpose(0, 2, 3, 1) if ours.ndim == 4 else ours
    assert ours.tolist() == expected.tolist()


def weight(*shape: int, dtype: str = "int8") -> np.ndarray:
    return RNG.integers(-127, 128, shape).astype(dtype)


def scales(count: int) -> list[float]:
    return [float(s) for s in RNG.uniform(0.001, 0.02, count).astype(np.float32)]


@pytest.mark.parametrize("activation", [NONE, RELU, RELU_N1_TO_1, RELU6])
@pytest.mark.parametrize(
    ("padding", "size", "kernel", "stride", "dilation"),
    [
        (VALID, (7, 6), (3, 2), (1, 1), 1),
        (SAME, (7, 6), (3, 2), (1, 1), 1),
        (SAME, (8, 7), (3, 3), (2, 2), 1),
        (SAME, (9, 9), (3, 3), (1, 1), 2),
        (SAME, (5, 5), (1, 1), (3, 2), 1),
        (SAME, (6, 9), (5, 4), (2, 3), 1),
    ],
)
@pytest.mark.parametrize("depthwise", [False, True])
def test_convolutions(activation, padding, size, kernel, stride, dilation, depthwise):
    rows, columns = (
        -(-s // d) if padding == SAME else (s - k) // d + 1
        for s, k, d in zip(size, kernel, stride, strict=True)
    )
    common = {
        "padding": padding,
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation,
        "dilationWFactor": dilation,
        "fusedActivationFunction": activation,
    }
    x, y = levels(1, *size, 3, zero_point=-7), levels(1, rows, columns, 6, scale=0.07, zero_point=-20)
    own = scales(6)
    bias = constant(RNG.integers(-2000, 2000, 6).astype(np.int32), *[0.05 * s for s in own])
    if depthwise:
        taps = constant(weight(1, *kernel, 6), *own, axis=3)
        check(
            "DEPTHWISE_CONV_2D",
            [x, taps, bias],
            y,
            schema.DepthwiseConv2DOptionsT(depthMultiplier=2, **common),
        )
    else:
        taps = constant(weight(6, *kernel, 3), *own, axis=0)
        check("CONV_2D", [x, taps, bias], y, schema.Conv2DOptionsT(**common))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("shape", [(1, 24), (1, 2, 3, 4)])
def test_fully_connected_layers_with_one_scale_or_many_and_without_a_bias(channels, shape):
    own = scales(channels)
    x, y = levels(*shape, scale=0.0371), levels(1, 5, scale=0.113, zero_point=9)
    options = schema.FullyConnectedOptionsT(fusedActivationFunction=RELU)
    check("FULLY_CONNECTED", [x, constant(weight(5, 24), *own)], y, options)
    bias = constant(RNG.integers(-900, 900, 5).astype(np.int32), *[0.0371 * s for s in own])
    check("FULLY_CONNECTED", [x, constant(weight(5, 24), *own), bias], y, options)


def test_the_ratio_of_a_weight_of_one_scale_is_formed_in_float32():
    for _ in range(20):
        x, y = (
            levels(1, 8, scale=float(RNG.uniform(0.01, 0.1))),
            levels(1, 400, scale=float(RNG.uniform(1, 2))),
        )
        check(
            "FULLY_CONNECTED",
            [x, constant(weight(400, 8), scales(1)[0])],
            y,
            schema.FullyConnectedOptionsT(),
            samples=60,
        )


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("activation", [NONE, RELU6])
@pytest.mark.parametrize(
    ("padding", "size", "window", "stride"),
    [
        (VALID, (6, 7), (2, 3), (2, 2)),
        (SAME, (6, 7), (2, 2), (1, 1)),
        (SAME, (7, 7), (3, 3), (2, 2)),
        (SAME, (8, 8), (3, 3), (2, 2)),
        (SAME, (8, 7), (2, 4), (1, 2)),
        (SAME, (9, 5), (4, 4), (3, 1)),
        (SAME, (5, 5), (1, 2), (2, 3)),
        (VALID, (5, 5), (5, 5), (1, 1)),
    ],
)
def test_pools(kind, activation, padding, size, window, stride):
    rows, columns = (
        -(-s // d) if padding == SAME else (s - k) // d + 1
        for s, k, d in zip(size, window, stride, strict=True)
    )
    options = schema.Pool2DOptionsT(
        padding=padding,
        strideH=stride[0],
        strideW=stride[1],
        filterHeight=window[0],
        filterWidth=window[1],
        fusedActivationFunction=activation,
    )
    check(kind, [levels(1, *size, 2)], levels(1, rows, columns, 2), options)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("shape", [(1, 3, 4, 2), (1, 1, 1, 2), (2,), ()])
@pytest.mark.parametrize("second", [False, True])
def test_sums_and_products_with_a_constant_that_broadcasts(kind, shape, second):
    options = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[kind]
    inputs = [levels(1, 3, 4, 2), constant(weight(*shape), 0.031, zero_point=-5)]
    y = levels(1, 3, 4, 2, scale=0.09, zero_point=17)
    check(kind, inputs if second else inputs[::-1], y, options(fusedActivationFunction=RELU))


@pytest.mark.parametrize("kind", ["MAXIMUM", "MINIMUM"])
def test_extremes(kind):
    inputs = [levels(1, 3, 2), constant(weight(1, 3, 2), 0.05, zero_point=3)]
    check(kind, inputs, levels(1, 3, 2), schema.MaximumMinimumOptionsT())


@pytest.mark.parametrize("kind", ["MEAN", "REDUCE_MAX"])
@pytest.mark.parametrize("axes", [[1, 2], [3], [1], [2], [1, 2, 3], [-1, 1]])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_reductions(kind, axes, keep, same):
    if kind == "REDUCE_MAX" and not same:
        return  # it moves levels
    size = [1, 5, 7, 3]
    reduced = {axis % 4 for axis in axes}
    shape = [1 if i in reduced else n for i, n in enumerate(size) if keep or i not in reduced]
    y = levels(*shape) if same else levels(*shape, scale=0.021, zero_point=-40)
    inputs = [levels(*size), constant(np.array(axes, np.int32))]
    check(kind, inputs, y, schema.ReducerOptionsT(keepDims=keep))


@pytest.mark.parametrize("scale", [0.002, 0.0437, 0.2, 1.7])
@pytest.mark.parametrize("shape", [(1, 10), (1, 2, 3, 4), (1, 300)])
def test_softmax(scale, shape):
    y = levels(*shape, scale=1 / 256, zero_point=-128)
    check("SOFTMAX", [levels(*shape, scale=scale)], y, schema.SoftmaxOptionsT(beta=1.0))


@pytest.mark.parametrize("scale", [0.003, 0.0237, 0.0471, 0.11, 0.6])
@pytest.mark.parametrize("zero_point", [-128, -3, 40])
def test_functions_of_one_value(scale, zero_point):
    x = Tensor(shape=(1, 256), scale=(scale,), zero_point=zero_point)
    check("LOGISTIC", [x], levels(1, 256, scale=1 / 256, zero_point=-128))
    check("TANH", [x], levels(1, 256, scale=1 / 128, zero_point=0))
    check("HARD_SWISH", [x], levels(1, 256, scale=scale * 0.7, zero_point=-11), schema.HardSwishOptionsT())
    check("LEAKY_RELU", [x], levels(1, 256, scale=0.04), schema.LeakyReluOptionsT(alpha=0.13))
    check("RELU", [x], levels(1, 256, scale=0.0333, zero_point=-100))
    check("RELU6", [x], Tensor(shape=(1, 256), scale=(scale,), zero_point=zero_point))
    check("QUANTIZE", [x], levels(1, 256, scale=0.0171, zero_point=5), schema.QuantizeOptionsT())


def test_moves():
    x = levels(1, 4, 6, 3)
    pads = constant(np.array([[0, 0], [1, 0], [2, 3], [0, 1]], np.int32))
    check("PAD", [x, pads], levels(1, 5, 11, 4), schema.PadOptionsT())
    order = constant(np.array([0, 2, 3, 1], np.int32))
    check("TRANSPOSE", [x, order], levels(1, 6, 3, 4), schema.TransposeOptionsT())
    for shape in ((1, 72), (1, 6, 12), (1, 3, 4, 6), (1, 4, 6, 3), (1, 2, 2, 6, 3)):
        numbers = constant(np.array(shape, np.int32))
        check("RESHAPE", [x, numbers], levels(*shape), schema.ReshapeOptionsT(newShape=list(shape)))
    bounds = [constant(np.array(row, np.int32)) for row in ([0, 1, 0, 1], [1, 4, -1, 3], [1, 2, 2, 1])]
    check("STRIDED_SLICE", [x, *bounds], levels(1, 2, 3, 2), schema.StridedSliceOptionsT())
    parts = [constant(np.array(row, np.int32)) for row in ([0, 1, 2, 0], [1, 2, -1, 3])]
    check("SLICE", [x, *parts], levels(1, 2, 4, 3), schema.SliceOptionsT())
    other = constant(weight(1, 4, 2, 3), 0.05, zero_point=3)
    check("CONCATENATION", [x, other], levels(1, 4, 8, 3), schema.ConcatenationOptionsT(axis=2))
    size = constant(np.array([8, 18], np.int32))
    for half in (False, True):
        options = schema.ResizeNearestNeighborOptionsT(halfPixelCenters=half)
        check("RESIZE_NEAREST_NEIGHBOR", [x, size], levels(1, 8, 18, 3), options)
    places = constant(np.array([2, 0, 0], np.int32))
    check("GATHER", [x, places], levels(1, 4, 3, 3), schema.GatherOptionsT(axis=2))
