"""Runs come out of MLflow as they went in; what cannot be read is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.compare.records import Predictions, read_runs
from pipeline.errors import PipelineError
from pipeline.tracking.mlflow_client import mlflow_client

PREDICTIONS = Predictions(file="predictions.safetensors", truth="labels", predicted="integer")


def test_the_runs_that_were_logged_come_back(database, recorded):
    found = read_runs(database, PREDICTIONS)
    assert [run.name for run in found] == [run.name for run in recorded]
    for run, logged in zip(found, recorded, strict=True):
        assert run.metrics == pytest.approx(logged.metrics) and run.params == logged.params
        assert logged.tags.items() <= run.tags.items()
        assert (run.status, run.started) == (logged.status, logged.started)
        assert (run.outcome.correct == logged.outcome.correct).all()
    assert len({run.outcome.samples for run in found}) == 1


def test_predictions_are_those_that_are_named(database):
    assert [run.outcome for run in read_runs(database)] == [None] * len(read_runs(database))
    labels = Predictions(file="predictions.safetensors", truth="labels", predicted="labels")
    assert all(run.outcome.correct.all() for run in read_runs(database, labels))
    absent = Predictions(file="predictions.safetensors", truth="labels", predicted="float")
    assert all(run.outcome is None for run in read_runs(database, absent))
    with pytest.raises(ValueError, match="truth='': must be a name"):
        Predictions(file="a", truth="", predicted="b")


def test_runs_are_chosen_by_experiment_sweep_and_filter(database, recorded):
    parent = read_runs(database)[0].tags["mlflow.parentRunId"]
    assert len(read_runs(database, experiment="quantization", sweep=parent)) == len(recorded)
    kl = read_runs(database, condition="tags.calibration = 'kl'")
    assert [run.name for run in kl] == [r.name for r in recorded if r.tags["calibration"] == "kl"]
    assert 0 < len(kl) < len(recorded)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"experiment": "quantisation"}, "--experiment=quantisation: not in .*did you mean 'quantization'"),
        (
            {"sweep": "abc"},
            "no run with metrics in .* matches --sweep=abc; experiments there: .*quantization",
        ),
        ({"condition": "tags.model = 'x'"}, "no run with metrics in .* matches --filter=tags.model = 'x'"),
        ({"condition": "colour = 'red'"}, "--filter=colour = 'red': .*[Ii]nvalid"),
    ],
)
def test_what_is_not_there_is_said(database, chosen, text):
    with pytest.raises(PipelineError, match=text):
        read_runs(database, **chosen)


def test_a_database_that_is_not_there_is_not_created(tmp_path):
    uri = f"sqlite:///{tmp_path / 'no.db'}"
    with pytest.raises(PipelineError, match=r"--tracking-uri=.*no\.db: there is no such file"):
        read_runs(uri)
    assert not (tmp_path / "no.db").exists()


def test_predictions_that_cannot_be_read_leave_the_run_without(database):
    client = mlflow_client(database)
    run = read_runs(database, PREDICTIONS)[3]
    file = Path(run.files.removeprefix("file://")) / PREDICTIONS.file
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:50])
        assert [r.outcome is None for r in read_runs(database, PREDICTIONS)[2:5]] == [False, True, False]
        file.unlink()
        assert read_runs(database, PREDICTIONS)[3].outcome is None
    finally:
        file.write_bytes(whole)
    assert client.get_run(run.id).info.status == "FINISHED"
    assert np.mean(read_runs(database, PREDICTIONS)[3].outcome.correct) == pytest.approx(
        run.metrics["integer/top1"]
    )
