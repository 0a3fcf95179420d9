"""The presets of experiment=channel_pruning/… build; one run leaves a smaller network, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

import conf
from pipeline.configuration.builder import Builder
from pipeline.configuration.schema import RunConfig, register

ROOT = Path(__file__).parents[1]
FOLDER = Path(conf.__file__).parent / "experiment" / "channel_pruning"


@pytest.mark.parametrize("preset", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_preset_halves_the_operations(preset):
    register()
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=[f"experiment=channel_pruning/{preset}"])
    builder = Builder(config)
    stages = builder.build_as(RunConfig).stages
    builder.raise_problems()
    method = stages["narrow"].method
    assert (method.keep, method.budget) == (0.5, "operations")
    assert stages["narrow"].recipe.epochs > 0 and stages["prune"] is None


def test_a_run_trains_a_smaller_network_with_quantization(tmp_path):
    overrides = (
        "compression=channel",
        "compression.narrow.recipe.epochs=1",
        "compression.narrow.method.round_to=8",
        "training=qat_finetune",
        "training.finetune.recipe.epochs=1",
        "training.float.epochs=1",
        "tracking=none",
        "stages.speed=null",
        "hydra.run.dir=run",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *overrides],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "layers lose channels" in done.stdout and "stay: they are the network's outputs" in done.stdout
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["model/integer_macs"] <= 0.5 * figures["model/float_macs"]
    assert figures["integer/agreement"] == 1.0 and figures["parity/max_off_by"] == 0.0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "multiply-accumulates" in page and "<h2>Compression</h2>" in page
