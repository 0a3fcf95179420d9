"""A sweep ends with its table; a table that cannot be drawn stops the sweep before it starts."""

from __future__ import annotations

import pickle

import pytest
from omegaconf import OmegaConf

from pipeline.compare.table_callback import TableOfSweep
from pipeline.tracking.mlflow_client import mlflow_client

DEFINITION = {
    "title": "Granularities",
    "source": "Someone 2018",
    "measure": "Top-1",
    "lines": {"integer": "integer/top1"},
    "samples": "test/samples",
    "columns": {"float": {"metric": "float/top1"}, "per tensor": {"granularity": "per_tensor"}},
    "paper": {"Net 1.0": [0.7, None]},
}


def configuration(folder, tracking):
    return OmegaConf.create({"tracking": tracking, "hydra": {"sweep": {"dir": str(folder)}}})


def test_the_table_is_written_printed_and_added_to_the_parent_run(database, tmp_path, capsys):
    client = mlflow_client(database)
    experiment = client.get_experiment_by_name("quantization").experiment_id
    members = client.search_runs([experiment], filter_string="tags.granularity = 'per_tensor'")
    for run in members:
        client.set_tag(run.info.run_id, "sweep", str(tmp_path))
    callback = pickle.loads(pickle.dumps(TableOfSweep(**DEFINITION)))  # as launchers do
    callback.on_multirun_start(configuration(tmp_path, {"uri": database}))
    callback.on_multirun_end(configuration(tmp_path, {"uri": database}))
    shown = capsys.readouterr().out
    assert "Granularities" in shown and "Paper: Someone 2018." in shown
    assert shown.splitlines()[-1] == f"the sweep's table: {tmp_path / 'table.md'}"
    newest = max(members, key=lambda run: run.info.start_time)
    top1 = newest.data.metrics["integer/top1"]
    shown_top1 = f"{top1:.3f}".removeprefix("0")
    text = (tmp_path / "table.md").read_text()
    assert f"| mobilenet_digits<br>integer | .980 | {shown_top1} |" in text
    assert "| Net 1.0<br>paper | .7 | – |" in text
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in members}
    assert {"table.md", "table.csv"} <= {file.path for file in client.list_artifacts(parent)}


def test_without_a_record_there_is_no_table(database, tmp_path, capsys):
    callback = TableOfSweep(**DEFINITION)
    callback.on_multirun_end(configuration(tmp_path, {"_target_": "pipeline.tracking.null.Null"}))
    assert capsys.readouterr().out.startswith("no table: it is made from recorded runs")
    callback.on_multirun_end(configuration(tmp_path / "other", {"uri": database}))
    assert capsys.readouterr().out.startswith("no table: no run with metrics in")
    assert not list(tmp_path.glob("**/table.*"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"paper": {"Net": [0.5]}}, "hydra.callbacks.table: paper.Net: 1 figures; must be 2"),
        ({"colums": {}}, "hydra.callbacks.table.colums: unknown key"),
        ({"columns": {"a": "per_tensor"}}, "hydra.callbacks.table.columns: expected a mapping"),
    ],
)
def test_a_wrong_definition_stops_the_sweep_before_it_starts(tmp_path, capsys, change, text):
    callback = TableOfSweep(**{**DEFINITION, **change})
    with pytest.raises(SystemExit):
        callback.on_multirun_start(configuration(tmp_path, {}))
    assert text in capsys.readouterr().err
