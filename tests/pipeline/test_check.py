"""``python -m pipeline.check`` on the command line, over the real configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.check", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_network_is_checked_without_data_and_nothing_is_written(tmp_path):
    arguments = ["data=image_folder", "check.shape=[3,16,16]", "check.num_classes=7", "backend=reference"]
    code, stdout, stderr = run(tmp_path, *arguments)
    assert (code, stderr) == (0, "")
    assert "operations on integers" in stdout and "100.00%" in stdout and "export onnx_qdq" in stdout
    assert "the network runs; nothing to change" in stdout
    assert "classifier" in stdout and "896" in stdout  # 128 · 7
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_ones_own_that_is_refused_ends_with_one(tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        return x if x.sum() > 0 else -x\n"
    )
    code, stdout, stderr = run(tmp_path, "model=torch", "model.target=own.Net", "backend=reference")
    assert code == 1 and "Traceback (most" not in stderr
    assert "user code: model.target: own.Net" in stdout
    assert "the network cannot run on integers as it is; to change, first things first:" in stdout
    assert "1. Net cannot be traced by torch.export" in stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["data=image_folder"], "data.train: mandatory value missing"),
        (["data=image_folder"], "(check.shape=[3,224,224] check.num_classes=10 need no data)"),
        (["model=lenet6"], "model=lenet6: no such option; did you mean 'lenet5'"),
        (["model.weights=a=b.pt"], "'model.weights=\"a=b.pt\"'"),
    ],
)
def test_what_is_wrong_is_said_in_a_few_lines(tmp_path, arguments, text):
    code, _, stderr = run(tmp_path, *arguments)
    assert code == 1 and text in stderr and "Traceback" not in stderr
