"""Runs that are killed, meet in one folder, or lose their database, as the command line has them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest


def wait_for(project, line, process):
    deadline = time.monotonic() + 120
    while not project.fakes.log.exists() or line not in project.fakes.log.read_text().splitlines():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.02)


def killed(project, *overrides):
    """Kill a run in its second stage; returns what its stages did."""
    project.fakes.ran()
    process = project.start("tracking=mlflow", "+stages.square.wait=60", *overrides)
    wait_for(project, "square", process)
    process.kill()
    process.communicate()
    return project.fakes.ran()


def tags_of(project, run):
    return {key: value for id_, key, value in project.recorded("tags", "run_uuid, key, value") if id_ == run}


def metrics_of(project, run):
    rows = project.recorded("latest_metrics", "run_uuid, key, value")
    return {key: value for id_, key, value in rows if id_ == run}


def test_a_killed_run_is_recorded_so_by_the_next_and_linked_from_the_same(project):
    killed(project)
    ((first, status),) = project.recorded("runs", "run_uuid, status")
    assert status == "RUNNING"
    (named,) = (project.folder / "outputs" / "pending").iterdir()
    code, stdout, stderr = project.run("tracking=mlflow")  # another setting: no successor
    assert (code, stderr) == (0, "")
    statuses = dict(project.recorded("runs", "run_uuid, status"))
    (other,) = statuses.keys() - {first}
    assert statuses == {first: "KILLED", other: "FINISHED"}
    assert tags_of(project, first)["error"] == "the process was killed"
    assert "resumes" not in tags_of(project, other) and first not in stdout
    assert not named.exists() and list((project.folder / "outputs" / "pending").iterdir()) == []

    killed(project, "stages.make.value=4")
    (second,) = dict(project.recorded("runs", "run_uuid, status")).keys() - statuses.keys()
    # 60 s long: it is killed a second time, and goes on a third
    did = killed(project, "stages.make.value=4")
    (third,) = dict(project.recorded("runs", "run_uuid, status")).keys() - statuses.keys() - {second}
    assert tags_of(project, third)["resumes"] == second
    assert metrics_of(project, third)["make/loss"] == 0.25  # of the stage that is cached
    assert "make" not in did


def test_two_runs_in_one_folder_are_one_run_and_a_refusal(project):
    process = project.start("+stages.square.wait=8", "hydra.run.dir=outputs/mine")
    wait_for(project, "square", process)
    before = (project.folder / "outputs" / "mine" / ".hydra" / "overrides.yaml").read_text()
    code, _, stderr = project.run("hydra.run.dir=outputs/mine", "seed=1")
    assert code == 1 and stderr.splitlines() == [
        "outputs/mine: another run is writing there, and a run's folder is its own. Remedy: another "
        "hydra.run.dir, or wait for it to end"
    ]
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 0
    assert (project.folder / "outputs" / "mine" / ".hydra" / "overrides.yaml").read_text() == before
    assert project.run("hydra.run.dir=outputs/mine", "seed=1")[0] == 0  # one after the other is fine


def test_a_database_deleted_during_a_run_is_made_anew_and_has_the_whole_run(project):
    process = project.start("tracking=mlflow", "+stages.square.wait=6")
    wait_for(project, "square", process)
    for file in (project.folder / "outputs").glob("mlflow.db"):  # its -wal and -shm stay
        file.unlink()
    stdout, stderr = process.communicate(timeout=200)
    assert (process.returncode, stderr) == (0, ""), stdout
    assert "is no longer in sqlite:///outputs/mlflow.db; recorded anew, as" in " ".join(stdout.split())
    ((run, status),) = project.recorded("runs", "run_uuid, status")
    assert status == "FINISHED"
    (folder,) = project.runs()
    assert metrics_of(project, run) == json.loads((folder / "metrics.json").read_text())
    assert "overrides" in tags_of(project, run) and project.recorded("params", "run_uuid")
    assert (project.folder / "outputs" / "mlartifacts" / run / "artifacts" / ".hydra").is_dir()


def test_a_locked_database_stops_no_stage_and_has_the_run_when_it_is_free(project):
    process = project.start("tracking=mlflow", "+stages.square.wait=3")
    wait_for(project, "square", process)
    lock = sqlite3.connect(project.folder / "outputs" / "mlflow.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    wait_for(project, "show", process)  # the last stage
    lock.execute("COMMIT")
    lock.close()
    stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, stderr) == (0, ""), stdout
    ((run, status),) = project.recorded("runs", "run_uuid, status")
    assert status == "FINISHED" and metrics_of(project, run)["square/value"] == 9.0


def deliver(project, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.deliver", *arguments],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
    )


def test_a_damaged_database_fails_the_run_at_its_end_and_a_new_one_gets_it(project):
    database = project.folder / "outputs" / "mlflow.db"
    process = project.start("tracking=mlflow", "tracking.patience=0", "+stages.square.wait=3")
    wait_for(project, "square", process)
    with database.open("r+b") as file:
        file.write(os.urandom(database.stat().st_size))
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 1 and "Traceback" not in stderr
    assert "MLflow failed" in stderr and "`python -m pipeline.deliver`" in stderr
    (folder,) = project.runs()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["square/value"] == 9.0 and "stage/show/seconds" in metrics

    refused = deliver(project)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    database.rename(project.folder / "damaged.db")
    done = deliver(project)
    assert (done.returncode, done.stderr) == (0, "") and "complete" in done.stdout
    ((run, status),) = project.recorded("runs", "run_uuid, status")
    assert status == "FINISHED" and metrics_of(project, run) == metrics
    assert deliver(project).stdout == "every run is recorded whole\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_so_itself_and_leaves_nothing_to_deliver(project, number):
    process = project.start("tracking=mlflow", "+stages.square.wait=60")
    wait_for(project, "square", process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert [status for (status,) in project.recorded("runs", "status")] == ["KILLED"]
    assert deliver(project).stdout == "every run is recorded whole\n"
