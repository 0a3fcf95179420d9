"""The presets of experiment=deep_compression/… build; one run goes from pruning to a file that all read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import conf
from pipeline.configuration.builder import Builder
from pipeline.configuration.schema import RunConfig, register
from stages.artifacts import IntegerProgram

ROOT = Path(__file__).parents[1]
FOLDER = Path(conf.__file__).parent / "experiment" / "deep_compression"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "curve"])
def test_a_preset_prunes_shares_weights_and_codes(preset):
    register()
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=[f"experiment=deep_compression/{preset}"])
    builder = Builder(config)
    stages = builder.build_as(RunConfig).stages
    builder.raise_problems()
    assert stages["prune"].method.keep < 0.5 and stages["convert"].coder == "range"
    assert type(stages["calibrate"].quantizer.weight).__name__ == "Codebook"
    assert stages["finetune"].recipe.epochs > 0


def test_the_curve_sweeps_widths_codebooks_pruning_and_files():
    params = OmegaConf.load(FOLDER / "curve.yaml").hydra.sweeper.params
    assert set(params["compression"].split(",")) == {"none", "prune", "deep"}
    assert set(params["quantizer"].split(",")) == {"symmetric", "codebook"}
    assert params["quantizer.weight.bits"] == "8,6,5,4,3,2"


def command(module, *arguments, folder):
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_leaves_one_file_that_everything_reads(tmp_path):
    command(
        "pipeline",
        "compression=deep",
        "compression.prune.method.keep=0.3",
        "compression.prune.recipe.epochs=1",
        "training.float.epochs=1",
        "quantizer=codebook",
        "tracking=none",
        "stages.speed=null",
        "hydra.run.dir=run",
        folder=tmp_path,
    )
    names = {path.name for path in (tmp_path / "run" / "program").iterdir()}
    assert names == {"program.coded", "preprocessing.json"}
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    size = (tmp_path / "run" / "program" / "program.coded").stat().st_size
    assert figures["model/file_bytes"] == size
    assert figures["model/file_compression"] == figures["model/float_bytes"] / size
    assert "<h2>Compression</h2>" in (tmp_path / "run" / "report.html").read_text()

    program = IntegerProgram.load(tmp_path / "run" / "program")
    value = program.program.values[program.program.input]
    q = np.zeros((2, *value.shape), value.dtype)
    assert (program.run_integers(q, backend="native") == program.run_integers(q)).all()

    common = ("program=run/program", "tracking=none", "hydra.run.dir=again")
    command("pipeline", "experiment=evaluate_program", "stages.speed=null", *common, folder=tmp_path)
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again["integer/top1"] == figures["integer/top1"] and again["model/file_bytes"] == size
    command("pipeline.export", "program=run/program", "export=[c]", "hydra.run.dir=exported", folder=tmp_path)
    assert list(tmp_path.rglob("model.c"))
    np.save(tmp_path / "images.npy", q.astype(np.float32))
    answers = command("pipeline.predict", "program=run/program", "input=images.npy", "top=1", folder=tmp_path)
    assert len(answers.splitlines()) == 2
