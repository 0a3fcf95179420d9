"""``model=onnx``: a float file goes through all stages, and what that run exports is measured as it is."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import torch
from torch import nn

from stages.artifacts import IntegerProgram
from tests.stages.importers.files import exported

LAYERS = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def run(folder, name, path, *more):
    command = [sys.executable, "-m", "pipeline", "model=onnx", f"model.path={path}", "data=digits"]
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
