"""A sweep ends with its page; a sweep that cannot be compared has still succeeded."""

from __future__ import annotations

from omegaconf import OmegaConf

from pipeline.compare.callback import CompareSweep
from pipeline.tracking.mlflow import mlflow_client


def finish(folder, tracking):
    config = OmegaConf.create({"tracking": tracking, "hydra": {"sweep": {"dir": str(folder)}}})
    CompareSweep().on_multirun_end(config)


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
