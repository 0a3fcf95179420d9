"""The presets of experiment=whitepaper/…: their sweeps fill their tables, and one of them is run whole."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow import MlflowClient
from omegaconf import OmegaConf

import conf
from pipeline.compare.table import METRIC
from pipeline.configuration.builder import Builder
from pipeline.configuration.schema import RunConfig, register

ROOT = Path(__file__).parents[1]
FOLDER = Path(conf.__file__).parent / "experiment" / "whitepaper"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def composed(*overrides: str):
    register()
    with initialize_config_module("conf", version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def jobs(config) -> list[tuple[str, ...]]:
    """The overrides of each job of a preset's sweep."""
    lines = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    parsed = OverridesParser.create().parse_overrides(lines)
    return list(itertools.product(*([f"{o.key_or_group}={v}" for v in o.value().list] for o in parsed)))


def test_all_tables_are_there():
    assert set(PRESETS) == {
        "weights_only", "weights_and_activations", "qat", "four_bit", "stochastic", "batchnorm"
    }  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_each_column_has_one_job_and_each_job_builds(preset):
    config = composed(f"experiment=whitepaper/{preset}")
    table = OmegaConf.to_container(config.hydra.callbacks.table)
    columns = [column for column in table["columns"].values() if METRIC not in column]
    filled = [0] * len(columns)
    for overrides in jobs(config):
        job = composed(f"experiment=whitepaper/{preset}", *overrides)
        builder = Builder(OmegaConf.masked_copy(job, [key for key in job if key != "hydra"]))
        stages = builder.build_as(RunConfig).stages
        builder.raise_problems()
        assert (stages["convert"] is None) == (preset == "weights_only")
        for index, column in enumerate(columns):
            has = (job.hydra.runtime.choices.get(k, OmegaConf.select(job, k)) == v for k, v in column.items())
            filled[index] += all(has)
    assert filled == [1] * len(columns)


def test_one_override_sets_the_epochs_of_all_training_after_the_first():
    for preset, jobs_that_train in (("qat", 3), ("four_bit", 1)):
        overrides = (f"experiment=whitepaper/{preset}", "qat.epochs=2")
        recipes = []
        for column in jobs(composed(*overrides)):
            training = composed(*overrides, *column).training
            recipes += [training.further or (training.finetune and training.finetune.recipe)]
        assert [recipe.epochs for recipe in recipes if recipe] == [2] * jobs_that_train


def test_a_preset_is_a_sweep_that_ends_with_its_table(tmp_path):
    command = (
        *(sys.executable, "-m", "pipeline", "experiment=whitepaper/four_bit", "threads=1"),
        *("training.float.epochs=2", "qat.epochs=1", "calibration.samples=64", "evaluate.parity_samples=16"),
        *("tracking.log_model=false", "evaluate.samples=200"),
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Weights of 4 bits, activations of 8" in done.stdout
    (file,) = tmp_path.glob("outputs/sweeps/*/*/table.csv")
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    shown = {(row["form"], row["column"]): row for row in rows if row["form"] != "paper"}
    titles = ["affine, per layer", "symmetric, per channel", "symmetric, per channel, trained"]
    for number, title in enumerate(titles):
        metrics = json.loads((file.parent / str(number) / "metrics.json").read_text())
        for form in ("integer", "simulated"):
            assert float(shown[form, title]["value"]) == metrics[f"{form}/top1"]
            assert shown[form, title]["samples"] == "200"
        assert float(shown["integer", "float"]["value"]) == metrics["float/top1"]
    paper = [row["value"] for row in rows if row["network"] == "MobileNet-v1 1.0 224"]
    assert paper == ["0.709", "0.02", "0.001", "0.65"]

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'outputs/mlflow.db'}")
    run = client.get_run(shown["integer", titles[0]]["run"])
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert {"table.md", "table.csv"} <= {f.path for f in client.list_artifacts(parent.info.run_id)}
