"""A sweep ends with its page; a sweep that cannot be compared has still succeeded."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import conf
from pipeline.compare.callback import CompareSweep
from pipeline.tracking.mlflow_client import mlflow_client

CONFIG = Path(conf.__file__).parent / "hydra/callbacks/compare.yaml"


def finish(folder, tracking):
    config = OmegaConf.create({"tracking": tracking, "hydra": {"sweep": {"dir": str(folder)}}})
    definition = OmegaConf.load(CONFIG)["compare"]
    del definition["_target_"]
    callback = pickle.loads(pickle.dumps(CompareSweep(**definition)))  # as launchers do
    callback.on_multirun_start(config)
    callback.on_multirun_end(config)


def test_the_page_of_a_sweep_has_its_runs_alone(database, recorded, tmp_path, capsys):
    client = mlflow_client(database)
    experiment = client.get_experiment_by_name("quantization").experiment_id
    members = client.search_runs([experiment], filter_string="tags.calibration = 'kl'")
    for run in members:
        client.set_tag(run.info.run_id, "sweep", str(tmp_path))
    finish(tmp_path, {"uri": database})
    page = tmp_path / "compare" / "index.html"
    assert capsys.readouterr().out == f"the sweep's runs compared: {page}\n"
    rows = (page.parent / "runs.csv").read_text().splitlines()[1:]
    assert {row.split(",")[1] for row in rows} == {run.info.run_name for run in members}
    assert 0 < len(rows) < len(recorded)
    files = client.list_artifacts(members[0].data.tags["mlflow.parentRunId"], "compare")
    assert [file.path for file in files] == ["compare/index.html", "compare/runs.csv"]


def test_without_a_record_there_is_nothing_to_compare(database, tmp_path, capsys):
    finish(tmp_path, {"_target_": "pipeline.tracking.null.Null"})
    assert capsys.readouterr().out == ""
    finish(tmp_path, {"uri": database})
    assert capsys.readouterr().out.startswith("the sweep's runs are not compared: no run with metrics in")
    assert not (tmp_path / "compare").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"better": "hihger"},
            "hydra.callbacks.compare.figures.rmse.better: 'hihger' is not a choice; did you mean 'higher'",
        ),
        ({"role": "sped"}, "hydra.callbacks.compare.figures.rmse.role: 'sped' is not a choice; did you mean"),
        ({"role": None}, "hydra.callbacks.compare: figures: one must have role=quality"),
        ({"lable": "x"}, "hydra.callbacks.compare.figures.rmse.lable: unknown key; did you mean 'label'"),
        ({"factor": -1}, "hydra.callbacks.compare.figures.rmse.factor=-1.0: must be above 0"),
        ({"digits": 16}, "hydra.callbacks.compare.figures.rmse.digits=16: must be 0..15"),
        ({"label": ""}, "hydra.callbacks.compare.figures.rmse.label=''"),
    ],
)
def test_a_wrong_figure_stops_the_sweep_before_it_starts(tmp_path, capsys, change, text):
    figure = {"label": "RMSE", "better": "lower", "role": "quality", **change}
    callback = CompareSweep(figures={"rmse": figure})
    with pytest.raises(SystemExit):
        callback.on_multirun_start(OmegaConf.create({}))
    assert text in capsys.readouterr().err


def test_two_figures_of_one_role_are_refused(capsys):
    figure = {"label": "RMSE", "better": "lower", "role": "quality"}
    with pytest.raises(SystemExit):
        CompareSweep(figures={"a": figure, "b": figure}).on_multirun_start(OmegaConf.create({}))
    assert "compare: figures: a and b have role=quality; must be one at most" in capsys.readouterr().err
