"""``model=onnx``, ``model=tflite``: a float file goes through all stages, and so does what that exports."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from stages.artifacts import IntegerProgram
from tests.stages.importers.files import exported
from tests.stages.importers.tflite_models import Tensor, constant, network_of

LAYERS = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def run(folder, name, path, *more):
    kind = path.suffix[1:]
    command = [sys.executable, "-m", "pipeline", f"model={kind}", f"model.path={path}", "data=digits"]
    command += [f"hydra.run.dir={folder / name}", "tracking=none", "speed.seconds=0.05", *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / name / "metrics.json").read_text())


def test_a_float_file_and_the_file_that_its_run_exports(tmp_path):
    torch.manual_seed(0)
    path = exported(nn.Sequential(*LAYERS, nn.Linear(4, 10)), torch.randn(1, 1, 8, 8), tmp_path / "net.onnx")
    first = run(
        tmp_path,
        "float",
        path,
        "export=[onnx_qdq]",
        "training=qat_finetune",
        "training.finetune.recipe.epochs=1",
    )
    assert first["integer/agreement"] == 1.0
    file = tmp_path / "float" / "export" / "onnx_qdq" / "model.onnx"
    second = run(tmp_path, "integer", file, "export=[onnx_qdq]")
    assert "stage/load/seconds" in second
    assert "stage/train/seconds" not in second
    assert second["integer/top1"] == first["integer/top1"]
    programs = [IntegerProgram.load(tmp_path / name / "program").program for name in ("float", "integer")]
    assert programs[0].values == programs[1].values
    for a, b in zip(*(program.ops for program in programs), strict=True):
        assert all(np.array_equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    assert file.read_bytes() == (tmp_path / "integer" / "export" / "onnx_qdq" / "model.onnx").read_bytes()


def float_tflite(path):
    """A convolution, a pool and a fully connected layer behind a flattened image, in floats."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, size**-0.5, shape).astype(np.float32) for shape, size in WEIGHTS]
    shapes = [(1, 8, 8, 1), (1, 8, 8, 6), (1, 4, 4, 6), (1, 96), (1, 10)]
    tensors = [*(Tensor(shape=shape, dtype="float32") for shape in shapes), *map(constant, weights)]
    conv = schema.Conv2DOptionsT(
        padding=0, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=1
    )
    pool = schema.Pool2DOptionsT(padding=1, strideH=2, strideW=2, filterHeight=2, filterWidth=2)
    operators = [
        ("CONV_2D", (0, 5, 6), 1, conv),
        ("MAX_POOL_2D", (1,), 2, pool),
        ("RESHAPE", (2,), 3, schema.ReshapeOptionsT(newShape=[1, 96])),
        ("FULLY_CONNECTED", (3, 7, -1), 4, schema.FullyConnectedOptionsT()),
    ]
    path.write_bytes(network_of(tensors, operators))
    return path


WEIGHTS = [((6, 3, 3, 1), 9), ((6,), 6), ((10, 96), 96)]


def test_a_float_tflite_file_and_the_file_that_its_run_exports(tmp_path):
    path = float_tflite(tmp_path / "net.tflite")
    training = ["training=qat_finetune", "training.finetune.recipe.epochs=1"]
    first = run(
        tmp_path, "float", path, "convert.arithmetic=tflm", "export=[tflite]", "backend=tflm", *training
    )
    assert first["integer/agreement"] == 1.0
    assert first["integer/top1"] > 0.5
    file = tmp_path / "float" / "export" / "tflite" / "model.tflite"
    second = run(tmp_path, "integer", file, "export=[tflite]")
    assert second["integer/top1"] == first["integer/top1"]
    assert file.read_bytes() == (tmp_path / "integer" / "export" / "tflite" / "model.tflite").read_bytes()
