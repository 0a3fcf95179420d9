"""Float .tflite files as networks: each operator, and networks of others, give what LiteRT gives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from pipeline.errors import PipelineError
from stages.importers.model import ImportedModel
from stages.importers.tflite import read_tflite
from tests.stages.importers.tflite_models import Tensor, constant, file_of, network_of

SHARED = Path(__file__).parents[4] / "shared" / "models" / "tflite"
RESOLVER = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
RNG = np.random.default_rng(0)


def real(*shape: int) -> Tensor:
    return Tensor(shape=shape, dtype="float32")


def numbers(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    return constant(RNG.uniform(low, high, shape).astype(np.float32))


def ints(*values: Any) -> Tensor:
    return constant(np.array(values, np.int32))


def window(kind: type, padding: int, stride: tuple[int, int], fused: int = 0, **more: int) -> Any:
    return kind(padding=padding, strideH=stride[0], strideW=stride[1], fusedActivationFunction=fused, **more)


conv = partial(window, schema.Conv2DOptionsT, dilationHFactor=1, dilationWFactor=1)
depthwise = partial(window, schema.DepthwiseConv2DOptionsT, dilationHFactor=1, dilationWFactor=1)
pool = partial(window, schema.Pool2DOptionsT)
transposed = partial(window, schema.TransposeConvOptionsT)
row, image = real(1, 4), real(1, 6, 5, 4)

CASES = [
    ("CONV_2D", [image, numbers(3, 3, 2, 4), numbers(3)], real(1, 6, 5, 3), conv(0, (1, 1), 1)),
    ("CONV_2D", [image, numbers(3, 3, 2, 4), numbers(3)], real(1, 3, 3, 3), conv(0, (2, 2), 3)),
    ("CONV_2D", [image, numbers(4, 3, 2, 4), numbers(4)], real(1, 2, 4, 4), conv(1, (2, 1), 2)),
    ("DEPTHWISE_CONV_2D", [image, numbers(1, 3, 3, 8), numbers(8)], real(1, 3, 3, 8),
     depthwise(0, (2, 2), depthMultiplier=2)),
    ("TRANSPOSE_CONV", [ints(1, 12, 10, 3), numbers(3, 3, 3, 4), image], real(1, 12, 10, 3),
     transposed(0, (2, 2))),
    ("TRANSPOSE_CONV", [ints(1, 12, 10, 3), numbers(3, 2, 2, 4), image], real(1, 12, 10, 3),
     transposed(1, (2, 2))),
    ("TRANSPOSE_CONV", [ints(1, 13, 11, 3), numbers(3, 3, 3, 4), image], real(1, 13, 11, 3),
     transposed(1, (2, 2))),
    ("FULLY_CONNECTED", [row, numbers(3, 4), numbers(3)], real(1, 3),
     schema.FullyConnectedOptionsT(fusedActivationFunction=1)),
    ("FULLY_CONNECTED", [image, numbers(3, 120), numbers(3)], real(1, 3), schema.FullyConnectedOptionsT()),
    ("FULLY_CONNECTED", [real(1, 5, 4), numbers(3, 4)], real(1, 5, 3),
     schema.FullyConnectedOptionsT(keepNumDims=True)),
    ("FULLY_CONNECTED", [image, numbers(3, 4), numbers(3)], real(1, 6, 5, 3),
     schema.FullyConnectedOptionsT(keepNumDims=True)),
    ("BATCH_MATMUL", [real(1, 5, 4), numbers(4, 3)], real(1, 5, 3), schema.BatchMatMulOptionsT()),
    ("BATCH_MATMUL", [image, numbers(1, 6, 3, 4)], real(1, 6, 5, 3), schema.BatchMatMulOptionsT(adjY=True)),
    ("AVERAGE_POOL_2D", [image], real(1, 3, 3, 4), pool(0, (2, 2), filterHeight=3, filterWidth=3)),
    ("AVERAGE_POOL_2D", [image], real(1, 6, 5, 4), pool(0, (1, 1), filterHeight=2, filterWidth=2)),
    ("AVERAGE_POOL_2D", [image], real(1, 1, 1, 4), pool(1, (1, 1), filterHeight=6, filterWidth=5)),
    ("MAX_POOL_2D", [image], real(1, 3, 3, 4), pool(0, (2, 2), 1, filterHeight=2, filterWidth=2)),
    ("MAX_POOL_2D", [image], real(1, 2, 2, 4), pool(1, (2, 2), filterHeight=3, filterWidth=2)),
    ("ADD", [image, numbers(4)], real(1, 6, 5, 4), schema.AddOptionsT(fusedActivationFunction=3)),
    ("ADD", [row, numbers(1, 6, 5, 4)], real(1, 6, 5, 4), schema.AddOptionsT()),
    ("SUB", [numbers(1, 6, 5, 1), image], real(1, 6, 5, 4), schema.SubOptionsT()),
    ("MUL", [image, constant(np.float32(0.3))], real(1, 6, 5, 4), schema.MulOptionsT()),
    ("DIV", [image, numbers(5, 1, low=1, high=2)], real(1, 6, 5, 4), schema.DivOptionsT()),
    ("MAXIMUM", [image, numbers(6, 1, 1)], real(1, 6, 5, 4), schema.MaximumMinimumOptionsT()),
    ("MINIMUM", [row, constant(np.float32(0.1))], real(1, 4), schema.MaximumMinimumOptionsT()),
    ("SQUARED_DIFFERENCE", [row, numbers(4)], real(1, 4), schema.SquaredDifferenceOptionsT()),
    ("MEAN", [image, ints(1, 2)], real(1, 4), schema.ReducerOptionsT()),
    ("MEAN", [image, ints(-1)], real(1, 6, 5, 1), schema.ReducerOptionsT(keepDims=True)),
    ("MEAN", [image, ints(1)], real(1, 5, 4), schema.ReducerOptionsT()),
    ("SUM", [image, ints(2)], real(1, 6, 4), schema.ReducerOptionsT()),
    ("REDUCE_MAX", [real(1, 5, 4), ints(1)], real(1, 4), schema.ReducerOptionsT()),
    ("SOFTMAX", [image], real(1, 6, 5, 4), schema.SoftmaxOptionsT(beta=0.5)),
    ("SOFTMAX", [real(1, 5, 4)], real(1, 5, 4), schema.SoftmaxOptionsT(beta=1.0)),
    ("LOG_SOFTMAX", [row], real(1, 4), schema.LogSoftmaxOptionsT()),
    ("L2_NORMALIZATION", [image], real(1, 6, 5, 4), schema.L2NormOptionsT()),
    ("RESHAPE", [image, ints(1, 120)], real(1, 120), schema.ReshapeOptionsT()),
    ("RESHAPE", [image, ints(1, 3, 40)], real(1, 3, 40), schema.ReshapeOptionsT()),
    ("RESHAPE", [image, ints(1, 5, 6, 4)], real(1, 5, 6, 4), schema.ReshapeOptionsT()),
    ("RESHAPE", [row, ints(1, 2, 1, 2)], real(1, 2, 1, 2), schema.ReshapeOptionsT()),
    ("SQUEEZE", [real(1, 1, 5, 4)], real(1, 5, 4), schema.SqueezeOptionsT(squeezeDims=[1])),
    ("EXPAND_DIMS", [real(1, 5, 4), ints(1)], real(1, 1, 5, 4), schema.ExpandDimsOptionsT()),
    ("TRANSPOSE", [image, ints(0, 3, 1, 2)], real(1, 4, 6, 5), schema.TransposeOptionsT()),
    ("TRANSPOSE", [image, ints(0, 2, 1, 3)], real(1, 5, 6, 4), schema.TransposeOptionsT()),
    ("TRANSPOSE", [real(1, 5, 4), ints(0, 2, 1)], real(1, 4, 5), schema.TransposeOptionsT()),
    ("PAD", [image, ints([0, 0], [1, 2], [0, 1], [0, 3])], real(1, 9, 6, 7), schema.PadOptionsT()),
    ("PADV2", [row, ints([0, 0], [1, 2]), constant(np.array([0.5], np.float32))], real(1, 7),
     schema.PadV2OptionsT()),
    ("MIRROR_PAD", [image, ints([0, 0], [1, 2], [0, 1], [0, 0])], real(1, 9, 6, 4),
     schema.MirrorPadOptionsT()),
    ("CONCATENATION", [image, numbers(1, 6, 5, 2)], real(1, 6, 5, 6), schema.ConcatenationOptionsT(axis=3)),
    ("CONCATENATION", [row, numbers(1, 2)], real(1, 6), schema.ConcatenationOptionsT(axis=-1)),
    ("GATHER", [image, ints(3, 0, 0)], real(1, 6, 5, 3), schema.GatherOptionsT(axis=3)),
    ("GATHER", [real(1, 5, 4), constant(np.int32(2))], real(1, 4), schema.GatherOptionsT(axis=1)),
    ("RESIZE_NEAREST_NEIGHBOR", [image, ints(9, 10)], real(1, 9, 10, 4),
     schema.ResizeNearestNeighborOptionsT()),
    ("RESIZE_NEAREST_NEIGHBOR", [image, ints(9, 10)], real(1, 9, 10, 4),
     schema.ResizeNearestNeighborOptionsT(halfPixelCenters=True)),
    ("RESIZE_BILINEAR", [image, ints(9, 10)], real(1, 9, 10, 4),
     schema.ResizeBilinearOptionsT(halfPixelCenters=True)),
    ("RESIZE_BILINEAR", [image, ints(9, 10)], real(1, 9, 10, 4),
     schema.ResizeBilinearOptionsT(alignCorners=True)),
    ("DEPTH_TO_SPACE", [image], real(1, 12, 10, 1), schema.DepthToSpaceOptionsT(blockSize=2)),
    ("SPACE_TO_DEPTH", [real(1, 6, 4, 3)], real(1, 3, 2, 12), schema.SpaceToDepthOptionsT(blockSize=2)),
    ("STRIDED_SLICE", [image, ints(0, 1, 0, 0), ints(1, 5, 5, 3), ints(1, 2, 1, 1)], real(1, 2, 5, 3),
     schema.StridedSliceOptionsT()),
    ("STRIDED_SLICE", [real(1, 5, 4), ints(0, -1, 0), ints(1, 0, 4), ints(1, 1, 1)], real(1, 4),
     schema.StridedSliceOptionsT(beginMask=1, endMask=5, shrinkAxisMask=2)),
    ("STRIDED_SLICE", [real(1, 5, 4), ints(0, 0, 0), ints(1, 0, 0), ints(1, -1, 1)], real(1, 5, 4),
     schema.StridedSliceOptionsT(beginMask=7, endMask=7)),
    ("SLICE", [image, ints(0, 1, 2, 0), ints(-1, 3, -1, 2)], real(1, 3, 3, 2), schema.SliceOptionsT()),
    ("TILE", [image, ints(1, 1, 2, 3)], real(1, 6, 10, 12), schema.TileOptionsT()),
    ("PRELU", [image, numbers(1, 1, 4)], real(1, 6, 5, 4), None),
    ("LEAKY_RELU", [row], real(1, 4), schema.LeakyReluOptionsT(alpha=0.3)),
    ("GELU", [row], real(1, 4), schema.GeluOptionsT(approximate=True)),
    *[(kind, [image], real(1, 6, 5, 4), None)
      for kind in ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "HARD_SWISH", "ELU", "ABS", "NEG")],
    *[(kind, [row], real(1, 4), None) for kind in ("EXP", "SQUARE", "SIN", "COS", "FLOOR", "ROUND", "CEIL")],
]  # fmt: skip


def by_litert(data: bytes, samples: np.ndarray) -> np.ndarray:
    """What LiteRT gives for samples in our layout, in our layout."""
    session = litert.Interpreter(model_content=data, experimental_op_resolver_type=RESOLVER, num_threads=1)
    session.allocate_tensors()
    (first, *_), (last, *_) = session.get_input_details(), session.get_output_details()
    found = []
    for sample in samples:
        x = sample.transpose(1, 2, 0) if sample.ndim == 3 else sample
        session.set_tensor(first["index"], np.ascontiguousarray(x[None]))
        session.invoke()
        y = session.get_tensor(last["index"])[0]
        found.append(y.transpose(2, 0, 1) if y.ndim == 3 else y)
    return np.stack(found)


def ours(path: Path, samples: np.ndarray) -> np.ndarray:
    network = ImportedModel(path=str(path)).build(samples.shape[1:], 10).eval()
    with torch.no_grad():
        return network(torch.from_numpy(samples)).numpy()


def written(folder: Path, data: bytes) -> Path:
    (folder / "net.tflite").write_bytes(data)
    return folder / "net.tflite"


def samples_for(shape: tuple[int, ...], count: int = 3) -> np.ndarray:
    shape = (shape[3], *shape[1:3]) if len(shape) == 4 else shape[1:]
    return np.random.default_rng(1).normal(0, 2, (count, *shape)).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_an_operator_gives_what_litert_gives(case, tmp_path):
    kind, inputs, output, options = case
    data = file_of(kind, inputs, output, options)
    x = samples_for(next(one.shape for one in inputs if one.content is None))
    found, expected = ours(written(tmp_path, data), x), by_litert(data, x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["EXP", "SQRT", "RSQRT", "LOG"])
def test_a_function_of_positive_numbers_gives_what_litert_gives(kind, tmp_path):
    data = file_of(kind, [real(1, 4)], real(1, 4))
    x = np.abs(samples_for((1, 4))) + 0.1
    np.testing.assert_allclose(ours(written(tmp_path, data), x), by_litert(data, x), rtol=1e-5)


def file_in_floats(data: bytes) -> bytes:
    """The file with its int8 weights as floats, so that LiteRT does not quantize what they multiply."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for tensor in model.subgraphs[0].tensors:
        raw = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.INT8 or raw is None:
            continue
        levels = np.frombuffer(bytes(raw), np.int8).reshape(tensor.shape).astype(np.float32)
        sides = [1] * levels.ndim
        sides[tensor.quantization.quantizedDimension] = -1
        scale = np.array(tensor.quantization.scale, np.float32)
        weight = levels * (scale.reshape(sides) if len(scale) > 1 else scale)
        model.buffers[tensor.buffer].data = np.frombuffer(weight.tobytes(), np.uint8)
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", ["ad01_fp32", "conv_fc_mnist_float32", "kws_float32"])
def test_a_network_of_others_gives_what_litert_gives(name, tmp_path, caplog):
    path = SHARED / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"data missing from ../shared: models/tflite/{name}.tflite")
    data = file_in_floats(path.read_bytes())
    shape = {"ad01_fp32": (1, 640), "conv_fc_mnist_float32": (1, 28, 28, 1)}.get(name, (1, 49, 10, 1))
    x = samples_for(shape)
    np.testing.assert_allclose(ours(path, x), by_litert(data, x), rtol=1e-4, atol=1e-5)
    assert ("are stored in integers" in caplog.text) == (name == "kws_float32")


def test_half_floats_behind_dequantize_are_weights(tmp_path):
    weight = RNG.normal(size=(3, 4)).astype(np.float16)
    options = schema.FullyConnectedOptionsT()
    data = network_of(
        [real(1, 4), constant(weight), real(3, 4), real(1, 3)],
        [("DEQUANTIZE", (1,), 2, None), ("FULLY_CONNECTED", (0, 2, -1), 3, options)],
    )
    x = samples_for((1, 4))
    np.testing.assert_allclose(
        ours(written(tmp_path, data), x), x @ weight.astype(np.float32).T, rtol=1e-5, atol=1e-6
    )


REFUSED = [
    (file_of("LSTM", [real(1, 4)], real(1, 4)), r"LSTM \(t1\): is not read\. Remedy: a network without it"),
    (file_of("CONV_2D", [image, real(3, 3, 2, 4)], real(1, 6, 5, 3), conv(0, (1, 1))),
     r"CONV_2D \(t2\): tensor 1 't1' must be constant here"),
    (file_of("CONV_2D", [image, numbers(3, 3, 2, 3)], real(1, 6, 5, 3), conv(0, (1, 1))),
     r"weight \(3, 3, 3, 2\) for a sample of shape \(4, 6, 5\)"),
    (file_of("CONV_2D", [image, numbers(3, 3, 2, 4)], real(1, 6, 5, 3), conv(0, (0, 1))), "stride"),
    (file_of("RESHAPE", [row, ints(2, 2)], real(2, 2)),
     r"tensor 2 't2' has shape \(2, 2\): must begin with the batch, 1"),
    (file_of("RESHAPE", [row, ints(1, 5)], real(1, 5)), r"a sample of \(4,\) has no shape \(5,\)"),
    (file_of("RESIZE_BILINEAR", [image, ints(9, 10)], real(1, 9, 10, 4), schema.ResizeBilinearOptionsT()),
     "Remedy: half_pixel_centers=True"),
    (file_of("TRANSPOSE", [row, ints(1, 0)], real(4, 1)), "must leave the batch first"),
    (file_of("ADD", [row, numbers(3)], real(1, 4), schema.AddOptionsT()), "ADD|Add"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "said"), REFUSED)
def test_what_is_not_read_is_said(data, said, tmp_path):
    path = written(tmp_path, data)
    with pytest.raises(PipelineError, match=rf"net\.tflite: .*({said})"):
        ImportedModel(path=str(path)).build(model_input(data), 10)


def model_input(data: bytes) -> tuple[int, ...]:
    _, *shape = schema.ModelT.InitFromPackedBuf(data, 0).subgraphs[0].tensors[0].shape
    return (shape[2], *shape[:2]) if len(shape) == 3 else tuple(shape)


def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path):
    """Bytes of a float file are changed at random."""
    options = schema.Pool2DOptionsT(padding=0, strideH=2, strideW=2, filterHeight=3, filterWidth=3)
    data = file_of("AVERAGE_POOL_2D", [image], real(1, 3, 3, 4), options)
    rng, outcomes = np.random.default_rng(0), set()
    for _ in range(150):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[rng.integers(0, len(data), 2)] = rng.integers(0, 256, 2)
        model = ImportedModel(path=str(written(tmp_path, damaged.tobytes())))
        try:
            if model.program() is None:
                model.build((4, 6, 5), 10)
            outcomes.add("read")
        except PipelineError as error:
            assert "net.tflite" in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_float_file_is_no_program(tmp_path):
    path = written(tmp_path, file_of("RELU", [row], real(1, 4)))
    with pytest.raises(ValueError, match=r"holds a float network.*Remedy: model=tflite"):
        read_tflite(path)
    model = ImportedModel(path=str(path))
    assert model.program() is None
    assert len(model.fingerprint()) == 64
