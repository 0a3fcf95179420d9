"""Sweeps: one record, each job once, whatever runs them and however often they are interrupted."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time

import pytest
from omegaconf import OmegaConf

from pipeline.errors import PipelineError
from pipeline.sweeps.jobs import Sweep, job_fingerprint, objective_values, sweep_fingerprint, threads_per_job

SWEEP = ("-m", "tracking=mlflow", "stages.make.value=1,2,3", "+stages.square.wait=0,0.01")


def by_parent(project):
    """Parent run -> its children, and each run's tags."""
    tags: dict[str, dict[str, str]] = {}
    for run, key, value in project.recorded("tags", "run_uuid, key, value"):
        tags.setdefault(run, {})[key] = value
    children: dict[str, list[str]] = {}
    for run, values in tags.items():
        if parent := values.get("mlflow.parentRunId"):
            children.setdefault(parent, []).append(run)
    return children, tags


def statuses(project):
    return dict(project.recorded("runs", "run_uuid, status"))


def wait_for(project, line, times, process):
    deadline = time.monotonic() + 120
    while not project.fakes.log.exists() or project.fakes.log.read_text().splitlines().count(line) < times:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


def test_a_sweep_is_one_record_and_the_same_command_again_does_nothing_twice(project):
    code, _, stderr = project.run(*SWEEP)
    assert (code, stderr) == (0, "")
    children, tags = by_parent(project)
    ((parent, runs),) = children.items()
    assert len(set(runs)) == 6 and len(project.recorded("runs", "run_uuid")) == 7
    assert set(statuses(project).values()) == {"FINISHED"}
    assert {tags[run]["mlflow.runName"] for run in runs} == {
        f"{number} make.value={make} square.wait={wait}"
        for number, (make, wait) in enumerate(itertools.product((1, 2, 3), (0, 0.01)))
    }
    assert tags[parent]["stages.make.value"] == "1,2,3" and tags[parent]["tracking"] == "mlflow"
    (folder,) = project.sweeps()
    assert {tags[run]["sweep"] for run in [parent, *runs]} == {str(folder.relative_to(project.folder))}
    assert len({tags[run]["fingerprint"] for run in runs}) == 6

    before = sorted(project.recorded("runs", "run_uuid, status"))
    project.fakes.ran()
    code, stdout, _ = project.run(*SWEEP)
    assert (code, stdout.count("done before, in run "), project.fakes.ran()) == (0, 6, [])
    assert sorted(project.recorded("runs", "run_uuid, status")) == before
    assert len(project.sweeps()) == 1  # it goes on in the same folder

    for change in ("sweep.resume=false", "seed=1"):
        code, stdout, _ = project.run(*SWEEP[:-1], change)
        assert (code, stdout.count("done before")) == (0, 0)
    assert sorted(len(runs) for runs in by_parent(project)[0].values()) == [3, 3, 6]


def test_a_sweep_that_is_killed_twice_ends_with_each_run_once(project):
    sweep = (*SWEEP[:-1], "+stages.square.wait=0.6,0.7")
    for squares in (3, 6):  # the third job is on its way; then, after it has begun again, the fifth
        process = project.start(*sweep)
        wait_for(project, "square", squares, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
    assert "RUNNING" in statuses(project).values()
    code, stdout, _ = project.run(*sweep)
    assert (code, stdout.count("done before")) == (0, 4)
    children, tags = by_parent(project)
    ((_, runs),) = children.items()
    assert len(runs) == 6 and len({tags[run]["fingerprint"] for run in runs}) == 6
    assert list(statuses(project).values()) == ["FINISHED"] * 7
    (folder,) = project.sweeps()
    assert len(list(folder.glob("*/metrics.json"))) == 6
    ran = project.fakes.ran()
    assert ran.count("make") == 3 and ran.count("add") == 3  # what was stored was not computed again
    assert ran.count("show") == 6


def test_an_interrupted_sweep_is_recorded_as_killed_and_goes_on(project):
    sweep = ("-m", "tracking=mlflow", "stages.make.value=1,2", "+stages.square.wait=1")
    process = project.start(*sweep)
    wait_for(project, "square", 1, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command goes on from there" in stderr
    assert sorted(statuses(project).values()) == ["KILLED", "KILLED"]
    assert project.run(*sweep)[0] == 0
    assert sorted(statuses(project).values()) == ["FINISHED"] * 3
    assert not [key for (key,) in project.recorded("tags", "key") if key == "error"]


def test_a_job_that_fails_leaves_the_others_alone_and_is_tried_again(project):
    one_a_batch = "hydra.sweeper.max_batch_size=1"
    sweep = ("-m", "tracking=mlflow", "+stages.add.fail=error,none", "stages.make.value=5", one_a_batch)
    code, _, stderr = project.run(*sweep)
    assert code == 1 and "add cannot go on" in stderr and "failed jobs: 1;" in stderr
    assert sorted(statuses(project).values()) == ["FAILED", "FAILED", "FINISHED"]
    code, stdout, _ = project.run(*sweep)
    assert code == 1 and stdout.count("done before") == 1
    assert len(statuses(project)) == 3


@pytest.mark.parametrize("launcher", ["joblib", "ray", "submitit_local"])
def test_launchers_give_the_same_figures(project, launcher):
    code, _, stderr = project.run(*SWEEP[:3], "+stages.square.wait=0.3", f"hydra/launcher={launcher}")
    assert code == 0, stderr
    assert "UserWarning" not in stderr
    children, _ = by_parent(project)
    ((parent, runs),) = children.items()
    assert len(runs) == 3 and statuses(project)[parent] == "FINISHED"
    (folder,) = project.sweeps()
    made = [json.loads((folder / f"{n}/metrics.json").read_text())["square/value"] for n in range(3)]
    assert made == [1.0, 4.0, 9.0]


def test_processes_share_one_store_one_database_and_even_one_sweep(project):
    processes = [project.start(*SWEEP[:3], f"+stages.square.wait={wait}") for wait in (0.3, 0.3, 0.2)]
    outputs = []
    for process in processes:
        stdout, stderr = process.communicate(timeout=200)
        assert (process.returncode, stderr) == (0, "")
        outputs.append(stdout)
    assert sum(stdout.count("done before") for stdout in outputs) == 3
    children, tags = by_parent(project)
    assert sorted(len(runs) for runs in children.values()) == [3, 3]
    assert len({tags[run]["fingerprint"] for runs in children.values() for run in runs}) == 6
    assert list(statuses(project).values()) == ["FINISHED"] * 8
    ran = project.fakes.ran()
    assert (ran.count("make"), ran.count("square"), ran.count("show")) == (3, 6, 6)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("tracking=none,mlfow", "tracking=mlfow: no such option; did you mean 'mlflow'"),
        ("seed=1,x", "Value 'x' of type 'str' could not be converted to Integer"),
        ("sed=1,2", "sed: no such setting; did you mean 'seed'"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_before_the_first_job(project, override, text):
    code, _, stderr = project.run("-m", "stages.make.value=1,2", override)
    assert code == 1 and text in stderr
    assert project.fakes.ran() == []


def test_a_search_gets_the_objectives_in_their_order(project):
    search = (
        "-m",
        "tracking=mlflow",
        "hydra/sweeper=optuna",
        "hydra.sweeper.direction=[maximize,minimize]",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.sampler.seed=0",
        "objectives=[square/value,make/loss]",
        "stages.make.value=interval(1.0,3.0)",
    )
    code, _, stderr = project.run(*search)
    assert code == 0, stderr
    (folder,) = project.sweeps()
    result = OmegaConf.load(folder / "optimization_results.yaml")
    values = [json.loads(path.read_text())["square/value"] for path in folder.glob("*/metrics.json")]
    assert len(values) == 4
    assert [tuple(solution["values"]) for solution in result.solutions] == [(max(values), 0.25)]

    project.fakes.ran()
    code, stdout, _ = project.run(*search)  # the sampler proposes the same, and hears the same figures
    assert (code, stdout.count("done before"), project.fakes.ran()) == (0, 4, [])
    assert OmegaConf.load(folder / "optimization_results.yaml") == result


def test_a_candidate_that_fails_does_not_end_the_search(project):
    code, _, stderr = project.run(
        "-m",
        "tracking=mlflow",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.max_failure_rate=1.0",
        "hydra/sweeper/sampler=grid",
        "objectives=[square/value]",
        "stages.make.value=choice(1.0,2.0)",
        "+stages.add.fail=choice('',error)",
    )
    assert code == 0, stderr
    statuses = sorted(status for name, status in project.recorded("runs", "name, status"))
    assert statuses == ["FAILED", "FAILED", "FINISHED", "FINISHED", "FINISHED"]  # the search itself is one


def test_objectives_are_a_number_or_a_tuple():
    metrics = {"a/x": 1.0, "b/y": 2.0}
    assert objective_values([], metrics) is None
    assert objective_values(["b/y"], metrics) == 2.0
    assert objective_values(["b/y", "a/x"], metrics) == (2.0, 1.0)
    with pytest.raises(
        PipelineError, match=r"no metric 'a/z'; did you mean 'a/x'\? valid: a/x, b/y; one that is not"
    ):
        objective_values(["a/z"], metrics)


@pytest.mark.parametrize(
    ("launcher", "threads"),
    [
        ({}, None),
        ({"n_jobs": 2}, 4),
        ({"n_jobs": 3}, 2),
        ({"n_jobs": 16}, 1),
        ({"n_jobs": -1}, 1),
        ({"n_jobs": -7}, 4),
        ({"ray": {"remote": {"num_cpus": 3}}}, 3),
        ({"ray": {"remote": {}}}, None),
        ({"cpus_per_task": 4}, 4),
        ({"cpus_per_task": None}, None),
    ],
)
def test_jobs_share_eight_cores(launcher, threads):
    assert threads_per_job({"_target_": "any", **launcher}, cores=8) == threads


def test_a_job_is_named_by_what_it_has_of_its_own():
    sweep = Sweep(fingerprint="", record="", varies=("quantizer", "+quantizer.weight.bits", "seed"))
    task = ["quantizer=affine", "data=digits", "+quantizer.weight.bits=4", "seed=1"]
    assert (
        sweep.job_name(7, task, {"quantizer": "affine", "data": "digits"}) == "7 affine weight.bits=4 seed=1"
    )


def test_where_a_run_is_done_does_not_change_its_fingerprint(fakes):
    config = OmegaConf.create({"seed": 1, "store": {"path": "a"}, "tracking": {"uri": "x"}, "threads": 1})
    stages = [fakes.Make(), fakes.DoSquare()]
    job, sweep = job_fingerprint(config, stages, 1), sweep_fingerprint(config, ["seed=1,2", "store.path=a"])
    moved = OmegaConf.merge(config, {"store": {"path": "b"}, "tracking": {"uri": "y"}, "objectives": ["x"]})
    assert job_fingerprint(moved, stages, 1) == job
    assert sweep_fingerprint(moved, ["seed=1,2", "+tracking.uri=y"]) == sweep
    for changed in (OmegaConf.merge(config, {"seed": 2}), OmegaConf.merge(config, {"threads": 2})):
        assert job_fingerprint(changed, stages, 1) != job
        assert sweep_fingerprint(changed, ["seed=1,2"]) != sweep
    assert job_fingerprint(config, [fakes.Make(value=4.0), fakes.DoSquare()], 1) != job
    assert sweep_fingerprint(config, ["seed=1,2,3"]) != sweep
