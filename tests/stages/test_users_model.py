"""A user's model and what it imports: an edit anywhere below it computes anew, with given weights too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]

MODEL = """
from dataclasses import dataclass
from torch import nn
from .blocks import block
from stages.models.weights import load_weights, weights_fingerprint

@dataclass(frozen=True, kw_only=True)
class Mine:
    weights: str | None = None

    def build(self, shape, num_classes):
        net = nn.Sequential(nn.Flatten(), *block(64, 32), nn.Linear(32, num_classes))
        return load_weights(net, self.weights, "Mine")

    def fingerprint(self):
        return weights_fingerprint(self.weights)
"""
BLOCKS = """
from torch import nn

def block(inputs, outputs):
    from my_package.helper import activation  # a function's import counts
    return nn.Linear(inputs, outputs), activation()
"""
HELPER = "from torch import nn\n\ndef activation():\n    return nn.{}()\n"


@pytest.fixture
def user(tmp_path):
    """A package of the user's own in the folder where the command starts, and a file of weights."""
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.py").write_text(MODEL)
    (package / "blocks.py").write_text(BLOCKS)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        "_target_: my_package.model.Mine\nweights: w.safetensors\n"
    )
    generator = torch.Generator().manual_seed(0)
    shapes = {"1.weight": (32, 64), "1.bias": (32,), "3.weight": (10, 32), "3.bias": (10,)}
    save_file({k: torch.randn(s, generator=generator) for k, s in shapes.items()}, tmp_path / "w.safetensors")
    return tmp_path


def run(user: Path, activation: str) -> dict[str, float]:
    """Float alone, which says whether the old network was served."""
    (user / "my_package" / "helper.py").write_text(HELPER.format(activation))
    left_out = [
        f"stages.{name}=null"
        for name in (
            "observe",
            "calibrate",
            "convert",
            "evaluate",
            "speed",
            "parity",
            "rounding",
            "verdict",
            "report",
            "verify",
        )
    ]
    command = ["--config-dir", "conf", "model=mine", "tracking=none", "hydra.run.dir=run", *left_out]
    environment = os.environ | {"PYTHONPATH": f"{user}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *command],
        cwd=user,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    metrics: dict[str, float] = json.loads((user / "run" / "metrics.json").read_text())
    return metrics


def test_a_helper_of_the_model_that_is_edited_computes_anew(user):
    relu = run(user, "ReLU")
    again = run(user, "ReLU")
    hardswish = run(user, "Hardswish")
    cached = [f"stage/{name}/cached" for name in ("train", "capture", "baseline")]
    assert [again[name] for name in cached] == [1.0, 1.0, 1.0] and again["float/top1"] == relu["float/top1"]
    assert [hardswish[name] for name in cached] == [0.0, 0.0, 0.0]
    assert hardswish["float/top1"] != relu["float/top1"]
