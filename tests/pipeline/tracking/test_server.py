"""A real MLflow server that dies in the middle of a run and comes back, and one that does not."""

from __future__ import annotations

import json

import pytest

from tests.faults.server import Server
from tests.pipeline.test_killed import deliver, metrics_of, tags_of, wait_for


@pytest.fixture
def server(project):
    server = Server(project.folder, project.folder / "outputs" / "mlflow.db")
    server.start()
    yield server
    server.die()


@pytest.mark.timeout(600)
def test_a_server_that_dies_during_runs_has_all_of_them_when_it_is_back(project, server):
    """The first is delivered by itself, the second by the command; a sweep's runs go on too."""
    command = ("tracking=server", f"tracking.uri={server.uri}", "+stages.square.wait=3")
    process = project.start(*command)
    wait_for(project, "square", process)
    server.die()
    wait_for(project, "show", process)  # the last stage: nothing has waited for the server
    server.start()
    stdout, stderr = process.communicate(timeout=200)
    assert (process.returncode, stderr) == (0, ""), stdout
    ((first, status),) = project.recorded("runs", "run_uuid, status")
    assert status == "FINISHED"
    (folder,) = project.runs()
    assert metrics_of(project, first) == json.loads((folder / "metrics.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == [
        ".hydra",
        ".lock",
        "metrics.json",
        "pipeline.log",
    ]

    project.fakes.ran()
    sweep = ("-m", *command[:2], "tracking.patience=0", "+stages.square.wait=3", "seed=1,2")
    process = project.start(*sweep)
    wait_for(project, "square", process)
    server.die()
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 1 and "Traceback" not in stderr
    assert stderr.count("`python -m pipeline.deliver`") == 2
    metrics = [json.loads(file.read_text()) for file in sorted(project.sweeps()[-1].glob("*/metrics.json"))]
    assert [values["square/value"] for values in metrics] == [9.0, 9.0]
    server.start()
    done = deliver(project)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("complete") == 2
    seeds = {tags_of(project, run).get("seed"): run for (run,) in project.recorded("runs", "run_uuid")}
    assert [metrics_of(project, seeds[seed]) for seed in ("1", "2")] == metrics
    code, stdout, _ = project.run(*sweep)
    assert (code, stdout.count("done before")) == (0, 2)
