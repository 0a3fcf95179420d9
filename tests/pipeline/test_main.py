"""The command line, in processes of its own, over fake stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_run_is_computed_recorded_and_then_taken_from_the_store(project):
    code, stdout, stderr = project.run("tracking=mlflow", "seed=5")
    assert (code, stderr) == (0, "")
    assert "the sum is 12.0" in stdout and "run directory: outputs/runs/day/" in stdout
    assert "record: mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db" in stdout
    (run,) = project.runs()
    metrics = json.loads((run / "metrics.json").read_text())
    assert dict(project.recorded("latest_metrics", "key, value")) == metrics
    params = dict(project.recorded("params", "key, value"))
    assert params["stages.make.value"] == "3" and params["store.path"] == "outputs/store"
    tags = dict(project.recorded("tags", "key, value"))
    assert (tags["overrides"], tags["seed"], tags["tracking"]) == ("tracking=mlflow seed=5", "5", "mlflow")
    whole = "python -m pipeline --config-dir conf --config-name fake tracking=mlflow seed=5"
    assert tags["command"] == whole
    assert tags["version/python"] == sys.version.split()[0] and "version/torch" in tags and "host" in tags
    assert project.recorded("runs", "status") == [("FINISHED",)]
    (files,) = (project.folder / "outputs" / "mlartifacts").glob("*/artifacts")
    assert {"metrics.json", "pipeline.log", ".hydra"} <= {file.name for file in files.iterdir()}
    assert "stage add: computed" in (run / "pipeline.log").read_text()

    project.fakes.ran()
    _, stdout, _ = project.run("seed=5")
    assert project.fakes.ran() == ["load square", "check show", "load sum", "show"]
    assert stdout.count("cached") == 3 and len(project.runs()) == 2


@pytest.mark.parametrize(
    ("override", "status"),
    [("stages.add.fail=error", "FAILED"), ("stages.add.fail=interrupt", "KILLED")],
)
def test_a_run_that_ends_badly_says_so_shortly_and_is_recorded(project, override, status):
    # `+`: the fake's own default is not written in the YAML
    code, _, stderr = project.run("tracking=mlflow", f"+{override}")
    assert code == (1 if status == "FAILED" else 130)
    text = "add cannot go on" if status == "FAILED" else "interrupted; "
    assert text in stderr and len(stderr.splitlines()) <= 5
    assert project.recorded("runs", "status") == [(status,)]
    assert text.split(";")[0][:3] in dict(project.recorded("tags", "key, value"))["error"].lower()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_with_their_code(project, number, expected):
    process = project.start("+stages.square.wait=30")
    deadline = time.monotonic() + 60
    while not (project.fakes.log.exists() and "\nsquare\n" in project.fakes.log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == expected
    assert "Traceback" not in stderr and "run directory: outputs/runs/day/" in stdout


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (
            ["+stages.make.valu=1", "stages.make.value=x", "+stages.square.wait=[]"],
            [
                "the configuration has 3 problems:",
                "stages.make.value: expected",
                "stages.make.valu: unknown key; did you mean 'value'? valid: noise, threads, value",
                "stages.square.wait: expected",
            ],
        ),
        (["stages.make=null"], ["stage 'square' consumes Number, which no stage before it produces"]),
        (["seed=-1"], ["seed=-1: must be 0..4294967295"]),
        (["seed=many"], ["Value 'many' of type 'str' could not be converted to Integer"]),
        (["sed=1"], ["sed: no such setting; did you mean 'seed'? valid: d"]),
        (["tracking=mlfow"], ["tracking=mlfow: no such option; did you mean 'mlflow'? valid: mlflow, none,"]),
        (["+sed=1"], ["  sed: nothing reads it; did you mean 'seed'? valid: "]),
        (["seed=1", "--config-dr", "x"], ["--config-dr: no such option; did you mean '--config-dir'?"]),
        (
            ["hydra.job.chdir=true"],
            ["hydra.job.chdir=true: must be false; relative paths", "Remedy: leave it"],
        ),
        (["-m", "hydra.job.chdir=true", "seed=1,2"], ["hydra.job.chdir=true: must be false; relative paths"]),
        (
            ["hydra.run.dir=.", "tracking=mlflow"],
            ["hydra.run.dir=.: must be a folder of the run's own, but holds the folder that the command"],
        ),
        (
            ["hydra.run.dir=outputs", "tracking=mlflow"],
            [
                "hydra.run.dir=outputs: must be",
                "but holds store.path=outputs/store;",
                "hydra.run.dir=outputs/",
            ],
        ),
        (
            ["-m", "hydra.sweep.dir=outputs", "hydra.sweep.subdir=.", "seed=1"],
            [
                "hydra.sweep.dir=/",
                "but holds store.path=outputs/store",
                "hydra.sweep.dir=outputs/sweeps/mine",
            ],
        ),
        (
            ["~tracking"],
            ["tracking: must be an option of the group, as tracking=mlflow or tracking=none"],
        ),
        (
            ["tracking=server", "tracking.uri=http://127.0.0.1:9"],
            ["tracking.uri=http://127.0.0.1:9: MLflow failed"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_few_lines_before_anything_runs(project, overrides, lines):
    code, _, stderr = project.run(*overrides)
    assert code == 1
    assert all(line in stderr for line in lines), stderr
    assert len(stderr.splitlines()) <= 15
    assert project.fakes.ran() == []


def test_a_run_that_is_refused_for_its_folder_writes_nothing(project):
    before = sorted(project.folder.rglob("*"))
    for override in ("hydra.run.dir=.", "hydra.job.chdir=true"):
        assert project.run("tracking=mlflow", override)[0] == 1
    assert sorted(project.folder.rglob("*")) == before


def test_the_record_leaves_out_other_runs_that_lie_in_the_runs_folder(project):
    assert project.run("tracking=mlflow", "hydra.run.dir=outputs/runs/day/1")[0] == 0
    assert project.run("tracking=mlflow", "seed=1", "hydra.run.dir=outputs/runs")[0] == 0
    kept = [
        {file.name for file in files.iterdir()}
        for files in (project.folder / "outputs" / "mlartifacts").glob("*/artifacts")
    ]
    assert len(kept) == 2 and kept[0] == kept[1] and {".hydra", "metrics.json"} <= kept[0]
    log = (project.folder / "outputs" / "runs" / "pipeline.log").read_text()
    assert "not recorded: " in log and "outputs/runs/day, in which other runs lie" in log


def test_a_sweep_gives_each_run_a_directory(project):
    code, _, stderr = project.run("-m", "stages.make.value=3,4")
    assert (code, stderr) == (0, "")
    (sweep,) = project.sweeps()
    values = [json.loads((sweep / f"{n}/metrics.json").read_text())["square/value"] for n in (0, 1)]
    assert values == [9.0, 16.0]


def test_threads_are_set_before_libraries_load(project):
    source = Path(project.fakes.module.__file__)
    source.write_text(source.read_text() + '\nran("threads " + os.environ.get("OMP_NUM_THREADS", "unset"))\n')
    project.environment.pop("OMP_NUM_THREADS", None)
    project.run("threads=3")
    assert project.fakes.ran()[0] == "threads 3"


def test_help_lists_the_groups_and_loads_no_large_library(project):
    project.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    code, stdout, stderr = project.run("--help")
    loaded = {line.rpartition("|")[2].strip() for line in stderr.splitlines()}
    assert code == 0 and "hydra" in loaded and not {"torch", "mlflow"} & loaded
    assert "tracking: mlflow, none, server" in stdout and "python -m pipeline -m granularity=" in stdout


def test_the_command_line_imports_neither_torch_nor_mlflow():
    imports = "import sys, pipeline.__main__, pipeline.session"
    code = f"{imports}; sys.exit(bool({{'torch', 'mlflow'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
